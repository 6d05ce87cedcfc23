//! A branch that moves, well and badly.

use std::os::unix::fs::symlink;

use kinetic_replica::{Limits, Replica, ReplicaConfig, ReplicaError, read_dir};

use crate::{World, git, take};

#[test]
fn each_tip_is_offered_once() {
    let world = World::new();
    let first = world.push("kinetic.hcl", "one");
    let mut replica = world.replica();
    assert_eq!(replica.current(), None);
    let candidate = replica.fetch().unwrap().unwrap();
    assert_eq!(candidate.revision.0, first);
    assert_eq!(candidate.files["kinetic.hcl"], b"one");
    assert_eq!(
        (candidate.author.as_str(), candidate.subject.as_str()),
        ("Ops <ops@acme.example>", "change kinetic.hcl")
    );
    assert!(!candidate.forced && candidate.time_s > 1_600_000_000);
    assert_eq!(candidate.generation, 1);
    assert_eq!(replica.fetch().unwrap(), None, "offered twice before a verdict");
    replica.accept(&candidate.revision).unwrap();
    assert_eq!(replica.fetch().unwrap(), None);
    assert_eq!(replica.status().current.unwrap().0, first);

    let second = world.push("customers/acme/customer.hcl", "two");
    let candidate = take(&mut replica);
    assert_eq!(candidate.revision.0, second);
    assert_eq!((candidate.files.len(), candidate.generation), (2, 2));
    assert_eq!(replica.current().unwrap().files, candidate.files);

    // Accepted survives a restart, without the remote.
    std::fs::remove_dir_all(world.remote()).unwrap();
    drop(replica);
    assert_eq!(world.replica().current().unwrap().revision.0, second);
}

#[test]
fn a_rejected_tip_waits_for_a_better_one() {
    let world = World::new();
    let good = world.push("a.hcl", "good");
    let mut replica = world.replica();
    take(&mut replica);
    let bad = world.push("a.hcl", "bad");
    let candidate = replica.fetch().unwrap().unwrap();
    replica.reject(&candidate.revision, "a.hcl:1: not good");
    assert_eq!(replica.fetch().unwrap(), None, "a rejected tip was offered again");
    let status = replica.status();
    assert_eq!(status.current.unwrap().0, good);
    let (revision, reason) = status.rejected.unwrap();
    assert_eq!((revision.0, reason.as_str()), (bad.clone(), "a.hcl:1: not good"));
    assert_eq!(replica.current().unwrap().files["a.hcl"], b"good");

    // After a restart it is looked at anew: the checker may be another.
    drop(replica);
    let mut replica = world.replica();
    assert_eq!(replica.fetch().unwrap().unwrap().revision.0, bad);

    let better = world.push("a.hcl", "better");
    assert_eq!(take(&mut replica).revision.0, better);
    assert_eq!(replica.status().rejected, None);
}

#[test]
fn a_reverted_remote_clears_the_rejection() {
    let world = World::new();
    let good = world.push("a.hcl", "good");
    let mut replica = world.replica();
    take(&mut replica);
    world.push("a.hcl", "bad");
    let candidate = replica.fetch().unwrap().unwrap();
    replica.reject(&candidate.revision, "bad");
    git(&world.work(), &["reset", "--quiet", "--hard", &good]);
    git(&world.work(), &["push", "--quiet", "--force", "origin", "main"]);
    assert_eq!(replica.fetch().unwrap(), None);
    assert_eq!(replica.status().rejected, None);
}

#[test]
fn a_rewritten_history_is_flagged() {
    let world = World::new();
    world.push("a.hcl", "1");
    world.push("a.hcl", "2");
    let mut replica = world.replica();
    take(&mut replica);
    git(&world.work(), &["reset", "--quiet", "--hard", "HEAD~1"]);
    let forced = world.push("a.hcl", "3");
    let candidate = take(&mut replica);
    assert_eq!((candidate.revision.0, candidate.forced), (forced, true));
    world.push("a.hcl", "4");
    assert!(!take(&mut replica).forced);
}

#[test]
fn an_unreachable_remote_changes_nothing() {
    let world = World::new();
    let first = world.push("a.hcl", "1");
    let mut replica = world.replica();
    take(&mut replica);
    let away = world.dir.path().join("away");
    std::fs::rename(world.remote(), &away).unwrap();
    let error = replica.fetch().unwrap_err();
    assert!(matches!(error, ReplicaError::Unreachable { .. }) && error.is_transient(), "{error:?}");
    assert_eq!(replica.current().unwrap().revision.0, first);
    assert!(replica.status().error.unwrap().contains("cannot fetch from"));
    std::fs::rename(&away, world.remote()).unwrap();
    let second = world.push("a.hcl", "2");
    assert_eq!(take(&mut replica).revision.0, second);
    assert_eq!(replica.status().error, None);
    assert!(!world.dir.path().join("replica.broken").exists(), "a sound clone was thrown away");
}

#[test]
fn an_empty_remote_lacks_the_branch() {
    let world = World::new();
    let mut replica = world.replica();
    assert!(matches!(replica.fetch(), Err(ReplicaError::BranchMissing { .. })));
    let first = world.push("a.hcl", "1");
    assert_eq!(take(&mut replica).revision.0, first);
}

#[test]
fn only_schema_files_are_read() {
    let world = World::new();
    let work = world.work();
    std::fs::create_dir_all(work.join(".hidden")).unwrap();
    for name in ["a.hcl", "notes.md", ".b.hcl", ".hidden/c.hcl"] {
        std::fs::write(work.join(name), name).unwrap();
    }
    symlink("/etc/passwd", work.join("link.hcl")).unwrap();
    symlink("/etc", work.join("etc")).unwrap();
    world.push_all("mixed");
    let in_revision = take(&mut world.replica()).files;
    assert_eq!(in_revision.keys().collect::<Vec<_>>(), ["a.hcl"]);
    assert_eq!(read_dir(&work).unwrap(), in_revision);
}

fn limited(world: &World, limits: Limits) -> Replica {
    Replica::open(ReplicaConfig { limits, ..world.config() }).unwrap()
}

#[test]
fn a_revision_beyond_a_limit_is_refused_once() {
    let limits = Limits { files_max: 2, file_bytes_max: 6, total_bytes_max: 9 };
    // One file too large, all of them too large, too many of them.
    for (name, content) in [("b.hcl", "1234567"), ("b.hcl", "123456"), ("c.hcl", "")] {
        let world = World::new();
        world.push("a.hcl", "1234");
        world.push("b.hcl", "12345");
        let mut replica = limited(&world, limits);
        let exactly = take(&mut replica).revision;
        let beyond = world.push(name, content);
        let error = replica.fetch().unwrap_err();
        assert!(matches!(error, ReplicaError::TooLarge { .. }) && !error.is_transient(), "{name}: {error:?}");
        assert_eq!(replica.fetch().unwrap(), None);
        let (rejected, reason) = replica.status().rejected.unwrap();
        assert!(rejected.0 == beyond && reason.contains("limit"), "{reason}");
        assert_eq!(replica.current().unwrap().revision, exactly);
        git(&world.work(), &["rm", "--quiet", name]);
        let fitting = world.push_all("smaller");
        assert_eq!(take(&mut replica).revision.0, fitting);
    }
}

#[test]
fn nested_trees_that_name_each_other_end() {
    let world = World::new();
    // Eight levels of sixteen names for one tree each: 16^8 paths in nine objects.
    std::fs::write(world.work().join("x.hcl"), "x").unwrap();
    git(&world.work(), &["add", "--all"]);
    let mut tree = git(&world.work(), &["write-tree"]);
    let script = r#"for i in 1 2 3 4 5 6 7 8 9 a b c d e f g; do printf '040000 tree %s\t%s\n' "$1" "$i"; done | git mktree"#;
    for _ in 0..8 {
        let output = std::process::Command::new("sh")
            .current_dir(world.work())
            .args(["-c", script, "sh", &tree])
            .output();
        tree = String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned();
    }
    let commit = git(&world.work(), &["commit-tree", "-m", "bomb", &tree]);
    git(&world.work(), &["push", "--quiet", "origin", &format!("{commit}:refs/heads/main")]);
    let error = world.replica().fetch().unwrap_err();
    assert!(matches!(error, ReplicaError::TooLarge { .. }), "{error:?}");
}
