//! Processes as `/proc` shows them: processor time, memory, who descends from whom, who listens on a port.

use crate::figures::float;
use std::{collections::HashMap, fs};

/// Ticks of processor time in a second, as `/proc` counts them: the same on every Linux.
const TICKS: f64 = 100.0;

/// A line of `/proc/<pid>/stat`, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    /// Its own ticks.
    own: u64,
    /// Those of children that have ended and were waited for.
    reaped: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The name may hold blanks and parentheses.
        let (start, end) = (line.find('(')?, line.rfind(')')?);
        let fields: Vec<&str> = line.get(end + 1..)?.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            name: line.get(start + 1..end)?.to_owned(),
            parent: u32::try_from(number(1)?).ok()?,
            own: number(11)? + number(12)?,
            reaped: number(13)? + number(14)?,
        })
    }

    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

fn all() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect()
}

/// Processor seconds of one process; 0 of none.
pub fn cpu_of(pid: u32) -> f64 {
    Stat::of(pid).map_or(0.0, |stat| float(stat.own) / TICKS)
}

/// Processor seconds of the processes and all that they have started, whether that runs or has ended.
pub fn cpu_of_trees(roots: &[u32]) -> f64 {
    let all = all();
    let belongs = |mut pid: u32| {
        while !roots.contains(&pid) {
            let Some(stat) = all.get(&pid) else { return false };
            pid = stat.parent;
        }
        true
    };
    let ticks = all.iter().filter(|(pid, _)| belongs(**pid)).map(|(_, stat)| stat.own + stat.reaped).sum();
    float(ticks) / TICKS
}

/// The parent of a process, if that has this name.
pub fn parent_named(pid: u32, name: &str) -> Option<u32> {
    let parent = Stat::of(pid)?.parent;
    (Stat::of(parent)?.name == name).then_some(parent)
}

/// Processes of this name whose parent has another: of a family only its head.
pub fn heads_named(name: &str) -> Vec<u32> {
    let all = all();
    let is = |pid: &u32| all.get(pid).is_some_and(|stat| stat.name == name);
    all.iter().filter(|(pid, stat)| is(pid) && !is(&stat.parent)).map(|(pid, _)| *pid).collect()
}

/// Those of `pids` that listen on the port; all of them when that cannot be told.
pub fn listening(pids: Vec<u32>, port: u16) -> Vec<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| listeners(table, port)).collect();
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok()?.to_str().map(str::to_owned));
        targets.any(|target| sockets.contains(&target))
    };
    let found: Vec<u32> = pids.iter().copied().filter(holds).collect();
    if found.is_empty() { pids } else { found }
}

/// The sockets that listen on the port, as links to them look: `socket:[4711]`.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let local = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listens = |row: &Vec<&str>| row.len() > 9 && row[1].ends_with(&local) && row[3] == "0A";
    rows.filter(listens).map(|row| format!("socket:[{}]", row[9])).collect()
}

/// What a process has in memory, now and at most so far; bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `VmRSS`
    pub now: u64,
    /// `VmHWM`
    pub peak: u64,
}

/// What a process has in memory.
pub fn memory_of(pid: u32) -> Memory {
    parse_memory(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
}

fn parse_memory(status: &str) -> Memory {
    let kibibytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let bytes = |name: &str| kibibytes(name).unwrap_or(0) * 1_024;
    Memory { now: bytes("VmRSS:"), peak: bytes("VmHWM:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name() {
        let line = "4711 (a (b) c) S 17 4711 4711 0 -1 4194304 9 0 0 0 250 50 7 3 20 0 1 0 100 0 0";
        let stat = Stat { name: "a (b) c".into(), parent: 17, own: 300, reaped: 10 };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("4711 (x) S 17"), None);
    }

    #[test]
    fn who_listens_is_found_by_the_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1628 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1234 1 0 100 0 0 10 0\n\
             1: 0100007F:1628 0100007F:E2A4 01 00000000:00000000 00:00000000 00000000  0 0 5678 1 0 100 0 0 10 0\n";
        assert_eq!(listeners(table, 5_672), ["socket:[1234]"]);
        assert!(listeners(table, 5_673).is_empty());
    }

    #[test]
    fn memory_is_in_bytes() {
        let memory = parse_memory("Name:\tapi\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n");
        assert_eq!(memory, Memory { now: 10_485_760, peak: 20_971_520 });
        assert_eq!(parse_memory(""), Memory::default());
    }

    #[test]
    fn this_process_is_there() {
        assert!(memory_of(std::process::id()).now > 0);
        assert!(cpu_of_trees(&[std::process::id()]) >= 0.0);
    }
}
