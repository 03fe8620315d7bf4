//! What the kernel says about this process.

/// What the kernel says about this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Open file descriptors.
    pub open_fds: u64,
    /// Resident memory.
    pub resident_bytes: u64,
}

impl Process {
    /// Reads it now; `None` where there is no `/proc`.
    #[must_use]
    pub fn read() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Self {
            open_fds: u64::try_from(open_fds).unwrap_or(u64::MAX),
            resident_bytes: resident_bytes(&status)?,
        })
    }
}

/// proc(5): `VmRSS:     1234 kB`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_line_proc_documents() {
        let status = "Name:\toutcomed\nVmHWM:\t    9 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(resident_bytes(status), Some(1_263_616));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_open_files_and_memory() {
        let process = Process::read().unwrap();
        assert!(process.open_fds >= 3 && process.resident_bytes > 100_000, "{process:?}");
    }
}
