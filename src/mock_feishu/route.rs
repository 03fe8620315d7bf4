//! Which call a method and a path name.

use super::journal::Api;

/// One call of the open platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `auth/v3/tenant_access_token/internal`
    InternalTenantToken,
    /// `auth/v3/app_access_token/internal`
    InternalAppToken,
    /// `auth/v3/app_ticket/resend`
    ResendTicket,
    /// `auth/v3/app_access_token`
    AppToken,
    /// `auth/v3/tenant_access_token`
    TenantToken,
    /// `hire/v1/websites/:website_id/deliveries/create_by_attachment`
    Create { website_id: String },
    /// `hire/v1/websites/:website_id/delivery_tasks/:delivery_task_id`
    Poll { website_id: String, task_id: String },
    /// Nothing that exists.
    Unknown,
}

impl Call {
    /// The call of `method` and `path`; the query plays no part.
    pub(super) fn named(method: &str, path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/open-apis/") else { return Self::Unknown };
        let segments: Vec<&str> = rest.split('/').collect();
        match (method, segments.as_slice()) {
            ("POST", ["auth", "v3", "tenant_access_token", "internal"]) => {
                Self::InternalTenantToken
            }
            ("POST", ["auth", "v3", "app_access_token", "internal"]) => Self::InternalAppToken,
            ("POST", ["auth", "v3", "app_ticket", "resend"]) => Self::ResendTicket,
            ("POST", ["auth", "v3", "app_access_token"]) => Self::AppToken,
            ("POST", ["auth", "v3", "tenant_access_token"]) => Self::TenantToken,
            ("POST", ["hire", "v1", "websites", site, "deliveries", "create_by_attachment"]) => {
                Self::Create { website_id: decoded(site) }
            }
            ("GET", ["hire", "v1", "websites", site, "delivery_tasks", task])
                if !site.is_empty() && !task.is_empty() =>
            {
                Self::Poll { website_id: decoded(site), task_id: decoded(task) }
            }
            _ => Self::Unknown,
        }
    }

    /// What it counts as.
    pub(super) fn api(&self) -> Api {
        match self {
            Self::Create { .. } => Api::Create,
            Self::Poll { .. } => Api::Poll,
            Self::Unknown => Api::Unknown,
            _ => Api::Auth,
        }
    }
}

/// A path segment with its `%41` undone; a broken escape stays as it is.
fn decoded(segment: &str) -> String {
    let mut parts = segment.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        if let Some(byte) = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        } else {
            bytes.push(b'%');
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_are_decoded_after_they_are_split() {
        let path = "/open-apis/hire/v1/websites/7047/delivery_tasks/a%2Fb%zz";
        let call = Call::named("GET", path);
        assert_eq!(call, Call::Poll { website_id: "7047".into(), task_id: "a/b%zz".into() });
    }

    #[test]
    fn wrong_methods_and_paths_are_unknown() {
        let token = "/open-apis/auth/v3/tenant_access_token/internal";
        assert_eq!(Call::named("POST", token), Call::InternalTenantToken);
        assert_eq!(Call::named("GET", token), Call::Unknown);
        assert_eq!(Call::named("POST", &token[10..]), Call::Unknown);
        assert_eq!(Call::named("POST", &format!("{token}/")), Call::Unknown);
        let poll = "/open-apis/hire/v1/websites/1/delivery_tasks/";
        assert_eq!(Call::named("GET", poll), Call::Unknown);
    }
}
