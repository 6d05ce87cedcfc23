//! Damaged objects, here and there, and a full disk.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use kinetic_replica::{Replica, ReplicaConfig, ReplicaError};

use crate::{World, git, object_file, take};

fn damage(path: &Path, how: &str) -> Vec<u8> {
    let before = std::fs::read(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
    match how {
        "zeroed" => std::fs::write(path, vec![0; before.len()]).unwrap(),
        "truncated" => {
            OpenOptions::new().write(true).open(path).unwrap().set_len(before.len() as u64 / 2).unwrap();
        }
        "emptied" => std::fs::write(path, "").unwrap(),
        "removed" => std::fs::remove_file(path).unwrap(),
        other => panic!("{other}"),
    }
    before
}

#[test]
fn a_damaged_remote_changes_nothing_until_it_is_repaired() {
    for how in ["zeroed", "truncated", "emptied", "removed"] {
        for object in ["main:a.hcl", "main^{tree}", "main"] {
            let world = World::new();
            let first = world.push("a.hcl", "first");
            let mut replica = world.replica();
            take(&mut replica);
            let second = world.push("a.hcl", "second, and longer than the first by something");
            let path = object_file(&world.remote(), object);
            let whole = damage(&path, how);
            for _ in 0..2 {
                let error = replica.fetch().expect_err(&format!("{object} {how}"));
                assert!(
                    matches!(error, ReplicaError::Corrupt { .. } | ReplicaError::Unreachable { .. }),
                    "{error:?}"
                );
                assert_eq!(replica.current().unwrap().revision.0, first);
                assert_eq!(replica.current().unwrap().files["a.hcl"], b"first");
            }
            assert!(!world.dir.path().join("replica.anew").exists(), "what failed was left lying about");
            // A restart in between keeps the accepted one too.
            drop(replica);
            let mut replica = world.replica();
            assert_eq!(replica.current().unwrap().revision.0, first, "{object} {how}");
            std::fs::write(&path, whole).unwrap();
            assert_eq!(take(&mut replica).revision.0, second, "{object} {how}");
        }
    }
}

/// Our own clone is damaged while nobody runs: the next start moves it aside, the next fetch takes the accepted revision up
/// again, although the remote's tip is another by then.
#[test]
fn a_damaged_clone_is_made_anew_at_the_start() {
    for how in ["zeroed", "truncated", "emptied", "removed"] {
        let world = World::new();
        let first = world.push("a.hcl", "first");
        let mut replica = world.replica();
        take(&mut replica);
        drop(replica);
        damage_all(&world.dir.path().join("replica"), how);
        let second = world.push("a.hcl", "second");
        let mut replica = world.replica();
        assert_eq!(replica.current(), None);
        assert!(world.dir.path().join("replica.broken").exists());
        assert_eq!(replica.fetch().unwrap().unwrap().revision.0, second);
        assert_eq!(replica.current().unwrap().revision.0, first, "{how}");
        drop(replica);
        assert_eq!(world.replica().current().unwrap().revision.0, first, "and again after a restart");
    }
}

/// The same while it runs.
#[test]
fn a_damaged_clone_is_made_anew_in_service() {
    let world = World::new();
    let first = world.push("a.hcl", "first");
    let mut replica = world.replica();
    take(&mut replica);
    std::fs::remove_dir_all(world.dir.path().join("replica/objects")).unwrap();
    let second = world.push("a.hcl", "second");
    let candidate = replica.fetch().unwrap().unwrap();
    assert_eq!((candidate.revision.0.as_str(), candidate.forced), (second.as_str(), false));
    assert_eq!(replica.current().unwrap().revision.0, first);
    replica.accept(&candidate.revision).unwrap();
    drop(replica);
    assert_eq!(world.replica().current().unwrap().revision.0, second);
}

#[test]
fn a_directory_of_rubbish_is_moved_aside() {
    let world = World::new();
    let first = world.push("a.hcl", "first");
    let dir = world.dir.path().join("replica");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("HEAD"), "rubbish").unwrap();
    assert_eq!(take(&mut world.replica()).revision.0, first);
    assert_eq!(std::fs::read(world.dir.path().join("replica.broken/HEAD")).unwrap(), b"rubbish");
}

fn damage_all(repo: &Path, how: &str) {
    let mut dirs = vec![repo.join("objects")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                damage(&path, how);
            }
        }
    }
}

/// A mounted file system of one size, gone with this value.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs");
        None
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0).status().unwrap();
    }
}

/// Fills what is left. The last write fails, which is the point.
fn fill(ballast: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    while file.write_all(&[1]).is_ok() {}
}

#[test]
fn a_full_disk_changes_nothing_until_there_is_room() {
    let world = World::new();
    let first = world.push("a.hcl", "first");
    let at = world.dir.path().join("small");
    let Some(_mounted) = Small::mount(&at) else { return };
    let mut replica = Replica::open(ReplicaConfig { dir: at.join("replica"), ..world.config() }).unwrap();
    take(&mut replica);
    let ballast = at.join("ballast");
    fill(&ballast);
    let second = world.push("a.hcl", "second");
    for _ in 0..2 {
        let error = replica.fetch().unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(replica.current().unwrap().revision.0, first);
    }
    drop(replica);
    let mut replica = Replica::open(ReplicaConfig { dir: at.join("replica"), ..world.config() }).unwrap();
    assert_eq!(replica.current().unwrap().revision.0, first);
    std::fs::remove_file(&ballast).unwrap();
    let candidate = replica.fetch().unwrap().unwrap();
    assert_eq!(candidate.revision.0, second);

    // The verdict itself needs room: without it the old revision stays, and the new one is offered again.
    fill(&ballast);
    replica.accept(&candidate.revision).unwrap_err();
    assert_eq!(replica.current().unwrap().revision.0, first);
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(take(&mut replica).revision.0, second);
    drop(replica);
    let replica = Replica::open(ReplicaConfig { dir: at.join("replica"), ..world.config() }).unwrap();
    assert_eq!(replica.current().unwrap().revision.0, second);
    git(&at.join("replica"), &["fsck", "--strict"]);
}
