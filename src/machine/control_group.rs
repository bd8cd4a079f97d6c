//! The memory limits of the control groups that a process is in: containers and batch jobs are
//! killed where they go beyond.
//!
//! Version 1 (a hierarchy of its own for memory, `memory.limit_in_bytes`) and version 2 (one for
//! all, `memory.max`), also side by side. Groups are nested and each ancestor's limit counts, as
//! does what the ancestor's other children use. Sources: the kernel's
//! Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst, proc(5) on mountinfo,
//! cgroups(7).

use std::fs;
use std::path::{Path, PathBuf};

/// The limit that leaves the least room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes.
    pub limit: u64,
    /// Bytes that can still be had below it.
    pub room: u64,
    /// The group's folder.
    pub group: PathBuf,
}

/// Names of the files that tell.
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// Lines of `memory.stat`: caches of files, which count as used and give way.
    caches: [&'static str; 2],
}

const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    caches: ["total_inactive_file", "total_active_file"],
};
const V2: Version = Version {
    limit: "memory.max",
    usage: "memory.current",
    caches: ["inactive_file", "active_file"],
};

/// The tightest limit of this process's groups; `root` is `/`. `None` without a limit, or where the
/// kernel does not tell.
pub fn memory_limit(root: &Path) -> Option<MemoryLimit> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    let memberships = groups.lines().filter_map(|line| {
        // hierarchy:controllers:path
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, Path::new(fields.next()?)))
    });
    let limits = memberships.flat_map(|(controllers, path)| {
        let is_v2 = controllers.is_empty();
        let holds = |mount: &&Mount| match is_v2 {
            true => mount.kind == "cgroup2",
            false => {
                mount.kind == "cgroup"
                    && lists(controllers, "memory")
                    && lists(&mount.options, "memory")
            }
        };
        let version = if is_v2 { &V2 } else { &V1 };
        mounts
            .iter()
            .filter(holds)
            .flat_map(|mount| mount.limits(root, path, version))
            .collect::<Vec<_>>()
    });
    limits.min_by_key(|limit| limit.room)
}

fn lists(names: &str, name: &str) -> bool {
    names.split(',').any(|other| other == name)
}

/// A mounted hierarchy of groups.
struct Mount {
    kind: String,
    /// The group that is seen at `point`.
    top: PathBuf,
    point: PathBuf,
    options: String,
}

impl Mount {
    /// A line of mountinfo: id, parent, device, root, mount point, options, optional fields, `-`,
    /// kind, source, options of the kind.
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut kind = kind.split(' ');
        Some(Self {
            top: unescaped(place.next()?).into(),
            point: unescaped(place.next()?).into(),
            kind: kind.next()?.to_owned(),
            options: kind.nth(1)?.to_owned(),
        })
    }

    /// The limits of the group at `path` and of all above it that can be seen.
    fn limits(&self, root: &Path, path: &Path, version: &Version) -> Vec<MemoryLimit> {
        // A container may see its own group at the mount point while its path is still told as the
        // machine names it.
        let below = path.strip_prefix(&self.top).unwrap_or(Path::new(""));
        let folder = |group: &Path| self.point.join(group).components().collect();
        below.ancestors().filter_map(|group| version.read(root, folder(group))).collect()
    }
}

impl Version {
    fn read(&self, root: &Path, group: PathBuf) -> Option<MemoryLimit> {
        let folder = root.join(group.strip_prefix("/").unwrap_or(&group));
        let number =
            |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let counted = |name: &str| {
            stat.lines().find_map(|line| {
                line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok()
            })
        };
        // Version 1 tells the least of all ancestors' limits, those above the mount point too; no
        // limit is a number beyond all memory.
        let limit = number(self.limit)
            .into_iter()
            .chain(counted("hierarchical_memory_limit"))
            .min()
            .filter(|limit| *limit < 1 << 60)?;
        let caches: u64 = self.caches.iter().filter_map(|name| counted(name)).sum();
        let used = number(self.usage)?.saturating_sub(caches);
        Some(MemoryLimit { limit, room: limit.saturating_sub(used), group })
    }
}

/// Spaces, tabs, line breaks and backslashes are written as `\` and three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, c)| text.replace(code, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of files: (path, contents).
    fn limit(files: &[(&str, &str)]) -> Option<(u64, u64, String)> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = memory_limit(root.path())?;
        Some((found.limit, found.room, found.group.to_str().unwrap().to_owned()))
    }

    const MOUNT_V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 \
                            rw,nsdelegate\n";
    const MOUNT_V1: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n35 31 0:32 / \
                            /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
    const NONE_V1: &str = "9223372036854771712\n";

    #[test]
    fn without_a_limit_there_is_none() {
        assert_eq!(limit(&[]), None);
        let v2 = [
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("sys/fs/cgroup/a/memory.current", "5\n"),
        ];
        assert_eq!(limit(&v2), None);
        assert_eq!(limit(&[&v2[..], &[("sys/fs/cgroup/a/memory.max", "max\n")]].concat()), None);
        let v1 = [
            ("proc/self/cgroup", "4:memory:/a\n"),
            ("proc/self/mountinfo", MOUNT_V1),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "5"),
        ];
        assert_eq!(
            limit(
                &[&v1[..], &[("sys/fs/cgroup/memory/a/memory.limit_in_bytes", NONE_V1)]].concat()
            ),
            None
        );
    }

    #[test]
    fn the_ancestor_with_the_least_room_counts_and_caches_give_way() {
        let files = [
            ("proc/self/cgroup", "0::/job.slice/step/task\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("sys/fs/cgroup/job.slice/memory.max", "1000\n"),
            ("sys/fs/cgroup/job.slice/memory.current", "900\n"),
            ("sys/fs/cgroup/job.slice/memory.stat", "anon 5\ninactive_file 200\nactive_file 50\n"),
            ("sys/fs/cgroup/job.slice/step/memory.max", "max\n"),
            ("sys/fs/cgroup/job.slice/step/memory.current", "300\n"),
            ("sys/fs/cgroup/job.slice/step/task/memory.max", "700\n"),
            ("sys/fs/cgroup/job.slice/step/task/memory.current", "300\n"),
        ];
        assert_eq!(
            limit(&files),
            Some((1000, 350, "/sys/fs/cgroup/job.slice".to_owned())),
            "its other children use it too"
        );
        assert_eq!(limit(&files[..2]), None);
        let tighter =
            [&files[..8], &[("sys/fs/cgroup/job.slice/step/task/memory.current", "600\n")]]
                .concat();
        assert_eq!(
            limit(&tighter),
            Some((700, 100, "/sys/fs/cgroup/job.slice/step/task".to_owned()))
        );
        let beyond =
            [&files[..8], &[("sys/fs/cgroup/job.slice/step/task/memory.current", "800\n")]]
                .concat();
        assert_eq!(limit(&beyond).unwrap().1, 0);
    }

    #[test]
    fn version_one_and_both_side_by_side() {
        let v1 = [
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/batch/job 7\n0::/unified\n"),
            (
                "proc/self/mountinfo",
                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,hugetlb,memory\n41 31 \
                 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n",
            ),
            ("sys/fs/cgroup/memory/batch/memory.limit_in_bytes", "2000\n"),
            ("sys/fs/cgroup/memory/batch/memory.usage_in_bytes", "1500\n"),
            (
                "sys/fs/cgroup/memory/batch/memory.stat",
                "cache 9\ninactive_file 1\ntotal_inactive_file 100\ntotal_active_file 20\n",
            ),
            ("sys/fs/cgroup/memory/batch/job 7/memory.limit_in_bytes", NONE_V1),
            ("sys/fs/cgroup/memory/batch/job 7/memory.usage_in_bytes", "700\n"),
        ];
        assert_eq!(limit(&v1), Some((2000, 620, "/sys/fs/cgroup/memory/batch".to_owned())));
        let both = [
            &v1[..],
            &[
                ("sys/fs/cgroup/unified/unified/memory.max", "600"),
                ("sys/fs/cgroup/unified/unified/memory.current", "1"),
            ],
        ];
        assert_eq!(
            limit(&both.concat()),
            Some((600, 599, "/sys/fs/cgroup/unified/unified".to_owned()))
        );
    }

    #[test]
    fn containers_see_their_group_at_the_mount_point() {
        // Docker on version 1: the path is the machine's, and so is the mount's root.
        let mount = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:9 - cgroup \
                     cgroup rw,memory\n";
        let docker = |path: &'static str| {
            [
                ("proc/self/cgroup", path),
                ("proc/self/mountinfo", mount),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "100"),
            ]
        };
        let own = Some((500, 400, "/sys/fs/cgroup/memory".to_owned()));
        assert_eq!(limit(&docker("4:memory:/docker/abc\n")), own);
        assert_eq!(limit(&docker("4:memory:/\n")), own, "another name space of groups");
        let hidden = [("sys/fs/cgroup/memory/memory.stat", "hierarchical_memory_limit 300\n")];
        assert_eq!(
            limit(&[&docker("4:memory:/docker/abc\n")[..], &hidden].concat()).unwrap().0,
            300,
            "of a pod above the container"
        );
        // Version 2 with a name space of its own, at a mount point with a space in it.
        let v2 = [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", "30 23 0:26 / /my\\040groups rw - cgroup2 cgroup rw\n"),
            ("my groups/memory.max", "500\n"),
            ("my groups/memory.current", "100\n"),
        ];
        assert_eq!(limit(&v2).map(|found| found.1), Some(400));
    }
}
