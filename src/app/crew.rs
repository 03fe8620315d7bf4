//! What this daemon tells the others of a fleet, and hears from them: how its lanes and receivers
//! do, and store apps' tickets. So any of them answers for all.

mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::report::Report;
use super::accounts::Accounts;
use crate::delivery::health::Health;
use crate::polling::board::Board;
use crate::store::fleet::{Fleet, Member};
use crate::store::{Result, Store};

/// How often the others are told and heard: what is shown of their lanes is at most twice as old.
const TALK_EVERY: Duration = Duration::from_secs(2);

/// What talking takes.
pub(super) struct Crew {
    pub(super) store: Arc<dyn Store>,
    pub(super) fleet: Arc<dyn Fleet>,
    pub(super) member: Member,
    pub(super) board: Arc<Board>,
    pub(super) health: Health,
    pub(super) accounts: Accounts,
}

impl Crew {
    /// Until shutdown.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut moves = self.fleet.moves();
        let talking = async {
            loop {
                if let Err(error) = self.talk().await {
                    tracing::debug!(%error, "nothing is heard from other daemons for now");
                }
                // A ticket that was just kept is worth a look at once.
                let _ = tokio::time::timeout(TALK_EVERY, moves.changed()).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            ((), ()) = async { tokio::join!(talking, self.accounts.ask_for_tickets()) } => {}
        }
    }

    async fn talk(&self) -> Result<()> {
        if self.board.standing().members.len() <= 1 {
            self.board.hear(BTreeMap::new());
            self.health.hear(Vec::new());
            return Ok(());
        }
        self.take_tickets().await?;
        let report = Report::of(&self.board.read_known(), self.health.origins().await);
        self.fleet.report(&self.member, &report.text()).await?;
        let members = self.fleet.members().await?;
        let others = members.iter().filter(|present| present.member.id != self.member.id);
        let told = others.filter_map(|present| Report::read(present.report.as_deref()?));
        let (mut lanes, mut origins) = (BTreeMap::new(), Vec::new());
        for report in told {
            lanes.extend(report.lanes());
            origins.extend(report.origins);
        }
        self.board.hear(lanes);
        self.health.hear(origins);
        Ok(())
    }

    /// Takes over what Feishu has pushed to any of us.
    async fn take_tickets(&self) -> Result<()> {
        if !self.accounts.store_apps().is_empty() {
            for ticket in self.store.tickets().await? {
                self.accounts.offer(&ticket);
            }
        }
        Ok(())
    }
}
