//! The tokens of one app and tenant.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::clock::Steady;

/// With this much life left or more, a fetch returns the token that is there; with less, a new
/// one (Feishu's document of `tenant_access_token/internal`).
const RENEWED_BELOW: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Debug)]
struct Token {
    text: String,
    expires: Steady,
}

/// The tokens that were handed out and still live, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens(Vec<Token>);

impl Tokens {
    /// Hands out a token and its remaining life in whole seconds.
    pub(super) fn fetch(
        &mut self,
        now: Steady,
        prefix: &str,
        life: Duration,
        random: &mut impl Rng,
    ) -> (String, u64) {
        self.0.retain(|token| token.expires > now);
        let fresh = |token: &&Token| token.expires.since(now) >= RENEWED_BELOW;
        if let Some(token) = self.0.last().filter(fresh) {
            return (token.text.clone(), token.expires.since(now).as_secs());
        }
        let text = format!("{prefix}{:030x}", random.random::<u128>() >> 8);
        self.0.push(Token { text: text.clone(), expires: now.after(life) });
        (text, life.as_secs())
    }

    /// Whether `text` is one of them and has not expired.
    pub(super) fn holds(&self, text: &str, now: Steady) -> bool {
        self.0.iter().any(|token| token.text == text && token.expires > now)
    }

    /// Withdraws them all: the next fetch makes a new one.
    pub(super) fn kill(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const LIFE: Duration = Duration::from_secs(7200);

    #[test]
    fn the_same_token_comes_back_while_30_minutes_or_more_are_left() {
        let (mut tokens, mut random) = (Tokens::default(), StdRng::seed_from_u64(1));
        let first = tokens.fetch(Steady(0), "t-", LIFE, &mut random);
        assert_eq!(first.1, 7200);
        let again = tokens.fetch(Steady(5_400_000), "t-", LIFE, &mut random);
        assert_eq!(again, (first.0, 1800));
    }

    #[test]
    fn under_30_minutes_a_new_token_comes_and_both_work() {
        let (mut tokens, mut random) = (Tokens::default(), StdRng::seed_from_u64(1));
        let (old, _) = tokens.fetch(Steady(0), "t-", LIFE, &mut random);
        let (new, life) = tokens.fetch(Steady(5_400_001), "t-", LIFE, &mut random);
        assert_ne!(old, new);
        assert_eq!(life, 7200);
        assert!(tokens.holds(&old, Steady(7_199_999)) && tokens.holds(&new, Steady(7_199_999)));
        assert!(!tokens.holds(&old, Steady(7_200_000)) && tokens.holds(&new, Steady(7_200_000)));
    }

    #[test]
    fn killed_tokens_stay_dead() {
        let (mut tokens, mut random) = (Tokens::default(), StdRng::seed_from_u64(1));
        let (old, _) = tokens.fetch(Steady(0), "t-", LIFE, &mut random);
        tokens.kill();
        assert!(!tokens.holds(&old, Steady(1)));
        assert_ne!(tokens.fetch(Steady(1), "t-", LIFE, &mut random).0, old);
    }
}
