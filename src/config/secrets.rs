//! Follows secret references on behalf of the settings, and remembers where each led.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::field::Field;
use super::reference::{Found, World};
use super::secret::Secret;

/// A secret in use, and where it came from; never the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The setting, e.g. `accounts[0].app_secret`.
    pub key: String,
    /// Where its value was found.
    pub from: String,
    /// Whether it stands in the configuration file itself.
    pub is_in_file: bool,
}

/// Follows references.
pub(super) struct Secrets<'a> {
    world: World<'a>,
    uses: RefCell<Vec<SecretUse>>,
    credentials: RefCell<BTreeMap<String, Secret>>,
}

impl<'a> Secrets<'a> {
    pub(super) fn new(world: World<'a>) -> Self {
        Self { world, uses: RefCell::default(), credentials: RefCell::default() }
    }

    /// The secret that a setting refers to.
    pub(super) fn follow(&self, field: &Field<'_>) -> Option<Secret> {
        Some(self.note(field, field.parse(|text| self.world.resolve(text))?))
    }

    fn note(&self, field: &Field<'_>, found: Found) -> Secret {
        if let Some(warning) = found.warning {
            field.reader.warn(warning);
        }
        if let Some(name) = found.credential {
            self.credentials.borrow_mut().insert(name, found.secret.clone());
        }
        self.uses.borrow_mut().push(SecretUse {
            key: field.shown(),
            is_in_file: found.from.is_none() && field.is_in_file(),
            from: found.from.unwrap_or_else(|| field.written_in()),
        });
        found.secret
    }

    /// The text of several lines that a setting refers to.
    pub(super) fn follow_text(&self, field: &Field<'_>) -> Option<Secret> {
        Some(self.note(field, field.parse(|text| self.world.resolve_text(text))?))
    }

    pub(super) fn into_uses(self) -> (Vec<SecretUse>, BTreeMap<String, Secret>) {
        (self.uses.into_inner(), self.credentials.into_inner())
    }
}
