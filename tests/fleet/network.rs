//! A network of namespaces, one for each daemon, whose cables can be cut in either direction.
//!
//! A cut sends packets to a hardware address that nobody has: they vanish without a word, as on a
//! broken switch.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

const NOBODY: &str = "02:00:00:00:be:ef";

/// Which packets vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// From the daemon to the database.
    ToStore,
    /// From the daemon to everybody.
    ToAll,
    /// From everybody to the daemon.
    FromAll,
}

/// A bridge on this machine and a namespace for each daemon behind it.
pub(crate) struct Network {
    bridge: String,
    third: u32,
    spaces: Vec<String>,
}

fn ip(line: &str) -> bool {
    let done = Command::new("ip").args(line.split(' ')).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

impl Network {
    /// `None`: this user, or this kernel, cannot.
    pub(crate) fn new(daemons: usize) -> Option<Self> {
        let id = std::process::id() % 10_000;
        let network = Self {
            bridge: format!("ocb{id}"),
            third: id % 250,
            spaces: (0..daemons).map(|n| format!("oc{id}n{n}")).collect(),
        };
        let bridge = &network.bridge;
        let mut made = ip(&format!("link add {bridge} type bridge"))
            && ip(&format!("addr add {}/24 dev {bridge}", network.here()))
            && ip(&format!("addr add {}/24 dev {bridge}", network.store()))
            && ip(&format!("link set {bridge} up"));
        for (n, space) in network.spaces.iter().enumerate() {
            made = made
                && ip(&format!("netns add {space}"))
                && ip(&format!("link add {space} type veth peer name eth0 netns {space}"))
                && ip(&format!("link set {space} master {bridge}"))
                && ip(&format!("link set {space} up"))
                && ip(&format!("-n {space} addr add {}/24 dev eth0", network.daemon(n)))
                && ip(&format!("-n {space} link set eth0 up"))
                && ip(&format!("-n {space} link set lo up"));
        }
        made.then_some(network)
    }

    fn address(&self, last: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits((10 << 24) | (213 << 16) | (self.third << 8) | last)
    }

    /// Where upstreams and receivers are.
    pub(crate) fn here(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Where the database is.
    pub(crate) fn store(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// Where a daemon is.
    pub(crate) fn daemon(&self, number: usize) -> Ipv4Addr {
        self.address(10 + u32::try_from(number).unwrap())
    }

    /// All of it.
    pub(crate) fn range(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// The command before one that runs in a daemon's namespace.
    pub(crate) fn enter(&self, number: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.spaces[number]].map(str::to_owned).to_vec()
    }

    pub(crate) fn cut(&self, number: usize, cut: Cut) {
        let space = &self.spaces[number];
        let lose = |from: &str, to: Ipv4Addr, device: &str| {
            assert!(ip(&format!(
                "{from}neigh replace {to} lladdr {NOBODY} dev {device} nud permanent"
            )));
        };
        let inside = format!("-n {space} ");
        match cut {
            Cut::ToStore => lose(&inside, self.store(), "eth0"),
            Cut::ToAll => {
                lose(&inside, self.store(), "eth0");
                lose(&inside, self.here(), "eth0");
            }
            Cut::FromAll => lose("", self.daemon(number), &self.bridge),
        }
    }

    pub(crate) fn heal(&self, number: usize) {
        let space = &self.spaces[number];
        for to in [self.store(), self.here()] {
            ip(&format!("-n {space} neigh del {to} dev eth0"));
        }
        ip(&format!("neigh del {} dev {}", self.daemon(number), self.bridge));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for space in &self.spaces {
            ip(&format!("netns del {space}"));
            ip(&format!("link del {space}"));
        }
        ip(&format!("link del {}", self.bridge));
    }
}
