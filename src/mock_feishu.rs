//! A stand-in for Feishu, faithful enough for its official SDKs.
