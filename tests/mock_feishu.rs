//! The stand-in upstream and the verifying receiver, over real sockets, with the official SDKs,
//! and as commands.

mod mock_feishu {
    mod auth;
    mod commands;
    mod faults;
    mod kit;
    mod quota;
    mod receiver;
    mod sdk;
    mod standing;
    mod store_app;
    mod wire;
}
