//! What Feishu calls the tasks of a lane. A daemon may watch a million tasks, so each costs a few
//! dozen bytes: sites are shared, and Feishu's usual ids (32 hex digits) are kept as 16 bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use crate::task::TaskId;

/// The names of a lane's tasks.
#[derive(Debug, Default)]
pub(super) struct Names {
    tasks: BTreeMap<TaskId, (Arc<str>, Id)>,
    websites: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
enum Id {
    Hex([u8; 16]),
    Other(Box<str>),
}

impl Names {
    /// A task is on this site and has this id.
    pub(super) fn insert(&mut self, task: TaskId, website: &str, id: &str) {
        let website = self.websites.get(website).cloned().unwrap_or_else(|| {
            let website: Arc<str> = website.into();
            self.websites.insert(Arc::clone(&website));
            website
        });
        self.tasks.insert(task, (website, Id::new(id)));
    }

    /// A task's site and id.
    pub(super) fn get(&self, task: TaskId) -> Option<(Arc<str>, String)> {
        self.tasks.get(&task).map(|(website, id)| (Arc::clone(website), id.text()))
    }

    /// A task's id, for a log line.
    pub(super) fn id(&self, task: TaskId) -> String {
        self.tasks.get(&task).map(|(_, id)| id.text()).unwrap_or_default()
    }

    /// Forgets a task, and its site with the last of its tasks.
    pub(super) fn remove(&mut self, task: TaskId) {
        let Some((website, _)) = self.tasks.remove(&task) else { return };
        if Arc::strong_count(&website) == 2 {
            self.websites.remove(&website);
        }
    }

    /// Gives back what growing one by one has left unused.
    pub(super) fn compact(&mut self) {
        self.tasks = std::mem::take(&mut self.tasks).into_iter().collect();
    }
}

impl Id {
    fn new(text: &str) -> Self {
        Self::hex(text).map_or_else(|| Self::Other(text.into()), Self::Hex)
    }

    /// Lower-case digits only: what is written must be what was read.
    fn hex(text: &str) -> Option<[u8; 16]> {
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(lower) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
    }

    fn text(&self) -> String {
        match self {
            Self::Hex(bytes) => {
                let mut text = String::with_capacity(32);
                let _ = write!(text, "{:032x}", u128::from_be_bytes(*bytes));
                text
            }
            Self::Other(text) => text.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_comes_back_as_it_was() {
        let mut names = Names::default();
        let ids = [
            "f1c2a0f138ec492d99d7ab73594158ad",
            "00000000000000000000000000000001",
            "F1C2A0F138EC492D99D7AB73594158AD",
            "+1c2a0f138ec492d99d7ab73594158ad",
            "7047318856652261676",
            "a",
        ];
        for (task, id) in (0..).map(TaskId).zip(ids) {
            names.insert(task, "7047318856652261676", id);
        }
        names.compact();
        for (task, id) in (0..).map(TaskId).zip(ids) {
            assert_eq!(names.id(task), id);
            assert_eq!(names.get(task).unwrap().0.as_ref(), "7047318856652261676");
        }
    }

    #[test]
    fn a_site_is_kept_once_and_no_longer_than_its_tasks() {
        let mut names = Names::default();
        for task in 0..3 {
            names.insert(TaskId(task), "site", &task.to_string());
        }
        assert_eq!(names.websites.len(), 1);
        names.insert(TaskId(1), "site", "1");
        (0..3).for_each(|task| names.remove(TaskId(task)));
        assert!(names.websites.is_empty() && names.tasks.is_empty());
        assert_eq!(names.get(TaskId(1)), None);
    }

    #[test]
    fn a_name_takes_forty_bytes() {
        assert!(size_of::<(Arc<str>, Id)>() <= 40);
    }
}
