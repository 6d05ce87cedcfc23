//! A new repository, its hook, and commits from this side.

use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kinetic_replica::{
    Author, Files, Replica, ReplicaConfig, ReplicaError, commit, init, pre_receive_hook, read_revision,
};

use crate::{git, take, try_git};

fn author() -> Author {
    Author::new("Wizard", "wizard@kinetic.example")
}

fn files(pairs: &[(&str, &str)]) -> Files {
    pairs.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn a_new_repository_works_like_any() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("schema.git");
    let first = files(&[("kinetic.hcl", "k"), ("customers/acme/customer.hcl", "c")]);
    let made = init(&path, &first, &pre_receive_hook(Path::new("/bin/true")), &author()).unwrap();
    assert_eq!(made.path, path);
    assert_eq!(git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(git(&path, &["log", "--format=%an <%ae>"]), "Wizard <wizard@kinetic.example>");
    let mode = std::fs::metadata(path.join("hooks/pre-receive")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    git(&path, &["fsck", "--strict"]);
    assert!(matches!(init(&path, &first, "", &author()), Err(ReplicaError::Exists { .. })));
    assert_eq!(read_revision(&path, "main").unwrap(), first);
    assert!(matches!(read_revision(&path, "0123456"), Err(ReplicaError::NoRevision { .. })));

    let second = commit(
        &path,
        &files(&[("customers/acme/alerts.hcl", "a"), ("kinetic.hcl", "K")]),
        "Add alerts",
        &author(),
    );
    assert_eq!(git(&path, &["rev-list", "main"]), format!("{}\n{}", second.as_ref().unwrap(), made.revision));
    let all = read_revision(&path, &second.unwrap().0).unwrap();
    assert_eq!(
        all,
        files(&[
            ("customers/acme/alerts.hcl", "a"),
            ("customers/acme/customer.hcl", "c"),
            ("kinetic.hcl", "K")
        ])
    );
    git(&path, &["fsck", "--strict"]);

    let mut replica =
        Replica::open(ReplicaConfig::new(path.display().to_string(), dir.path().join("replica"))).unwrap();
    assert_eq!(take(&mut replica).files, all);
}

/// libgit2 would inflate a truncated loose object for ever.
#[test]
fn a_truncated_object_is_an_error_and_no_hang() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("schema.git");
    let first = files(&[("a.hcl", "long enough to be cut in the middle, one hopes, by any measure")]);
    init(&path, &first, "", &author()).unwrap();
    for object in ["main:a.hcl", "main^{tree}", "main"] {
        let file = crate::object_file(&path, object);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let read = read_revision(&path, "main");
        assert!(matches!(read, Err(ReplicaError::Corrupt { .. })), "{object}: {read:?}");
        let written = commit(&path, &files(&[("b.hcl", "b")]), "more", &author());
        assert!(matches!(written, Err(ReplicaError::Corrupt { .. })), "{object}: {written:?}");
        std::fs::write(&file, &bytes).unwrap();
    }
    assert_eq!(read_revision(&path, "main").unwrap(), first);
}

/// A real push into a new repository, whose hook reads the pushed revision out of git's quarantine and refuses what says so.
#[test]
fn a_hook_reads_what_is_being_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("schema.git");
    let me = std::env::current_exe().unwrap();
    let hook = format!(
        "#!/bin/sh\ntest -n \"$GIT_QUARANTINE_PATH\" || exit 9\nKINETIC_TEST_HOOK=1 exec '{}' --exact hook::hook_stand_in --nocapture 1>&2\n",
        me.display()
    );
    init(&path, &files(&[("a.hcl", "1")]), &hook, &author()).unwrap();
    git(dir.path(), &["clone", "--quiet", "schema.git", "work"]);
    let work = dir.path().join("work");
    let push = |text: &str| {
        std::fs::write(work.join("a.hcl"), text).unwrap();
        git(&work, &["commit", "--quiet", "-am", text]);
        try_git(&work, &["push", "--quiet", "origin", "main"])
    };
    let (ok, _, said) = push("good");
    assert!(ok, "{said}");
    assert!(said.contains("checked a.hcl: good"), "{said}");
    let (ok, _, said) = push("refuse me");
    assert!(!ok && said.contains("checked a.hcl: refuse me"), "{said}");
    assert_eq!(git(&path, &["show", "main:a.hcl"]), "good");
}

/// Not a test by itself: what the hook above runs.
#[test]
fn hook_stand_in() {
    if std::env::var_os("KINETIC_TEST_HOOK").is_none() {
        return;
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let new = line.split(' ').nth(1).unwrap();
        for (path, bytes) in read_revision(Path::new("."), new).unwrap() {
            let text = String::from_utf8(bytes).unwrap();
            println!("checked {path}: {text}");
            assert!(!text.contains("refuse"), "refused");
        }
    }
}
