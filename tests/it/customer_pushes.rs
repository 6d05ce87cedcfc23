//! A customer's own push: with the real git, through the hook. What is honest goes through; each trick is refused, says where, and
//! changes nothing. And a customer is taken in by the commands that the documentation names.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic, run};
use kinetic_tests::schema::{Customer, SchemaRepo, Watch};

/// A repository of two customers, whose first has all that a customer may not change by itself.
struct Story {
    repo: SchemaRepo,
    head: String,
}

const ACME: &str = "customers/acme/customer.hcl";
const HASH: &str = "6b696e31f6c65c5dd9650d542786aecda5fba015a0c90d9638129eefc470db42f1543974";

impl Story {
    fn start(dir: &Path) -> Self {
        let repo = SchemaRepo::init(dir);
        repo.clear();
        let installation = "region \"local\" {}\n\nregion \"far\" {}\n\nmail {\n  relay = \"localhost:25\"\n  from  = \"a@b.example\"\n}\n";
        repo.write(&("kinetic.hcl".to_owned(), installation.to_owned()));
        for name in ["acme", "globex"] {
            let customer = Customer { name, watches: vec![Watch::default()] };
            customer.files().iter().for_each(|file| repo.write(file));
        }
        repo.rewrite(
            ACME,
            "  region = region.local\n",
            &format!(
                "  region    = region.local\n  netblocks = [\"203.0.113.0/24\"]\n\n  limits {{\n    feeds = 7\n  }}\n\n  \
                 certificate \"host\" {{\n    sha256  = \"{}\"\n    expires = \"2037-01-01\"\n  }}\n",
                "ab".repeat(32)
            ),
        );
        repo.push();
        // A hostile client has no scruples about names.
        run(repo.git(&["config", "core.protectNTFS", "false"]));
        let head = repo.head();
        Self { repo, head }
    }

    /// Pushes as the customer `acme`.
    fn push(&self, what: &[&str]) -> Output {
        let words: Vec<&str> = ["push", "origin"].into_iter().chain(what.iter().copied()).collect();
        self.repo.git(&words).env("KINETIC_CUSTOMER", "acme").output()
    }

    /// Does a trick, commits it, and pushes; it must be refused with these words.
    fn refused(&self, trick: &str, words: &[&str], play: impl FnOnce(&SchemaRepo)) {
        run(self.repo.git(&["reset", "--quiet", "--hard", &self.head]));
        run(self.repo.git(&["clean", "--quiet", "-ffdx"]));
        play(&self.repo);
        run(self.repo.git(&["commit", "--quiet", "--allow-empty", "--message", "A trick"]));
        self.expect(trick, words, &["HEAD:main"]);
    }

    fn expect(&self, trick: &str, words: &[&str], push: &[&str]) {
        let output = self.push(push);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{trick} went through: {said}");
        assert_eq!(self.repo.head(), self.head, "{trick} changed something");
        for words in words {
            assert!(said.contains(words), "{trick}: `{words}` is not in the pusher's terminal:\n{said}");
        }
        assert!(!said.contains("password"), "{trick}: {said}");
    }
}

fn add(repo: &SchemaRepo) {
    run(repo.git(&["add", "--all"]));
}

fn more(repo: &SchemaRepo, path: &str, text: &str) {
    repo.write(&(path.to_owned(), text.to_owned()));
    add(repo);
}

fn rewrite(from: &'static str, to: &'static str) -> impl FnOnce(&SchemaRepo) {
    move |repo| {
        repo.rewrite(ACME, from, to);
        add(repo);
    }
}

/// An entry of the index that no work tree holds.
fn entry(repo: &SchemaRepo, mode: &str, path: &str) {
    let blob = run(repo.git(&["rev-parse", "HEAD:kinetic.hcl"]));
    let object = if mode == "160000" { "1234567890123456789012345678901234567890" } else { blob.trim() };
    run(repo.git(&["update-index", "--add", "--cacheinfo", &format!("{mode},{object},{path}")]));
}

#[test]
fn a_customers_push_changes_its_own_folder_and_nothing_else() {
    if !all_here("customer_pushes", &[Need::Git]) {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let mut story = Story::start(dir.path());
    others_paths(&story);
    odd_names(&story);
    let plain = |repo: &SchemaRepo| more(repo, "customers/acme/notes.md", "ours\n");
    story.refused("another's block in its folder", &["customers/acme/globex.hcl", "wrong-folder"], |repo| {
        more(repo, "customers/acme/globex.hcl", "customer \"globex\" {\n  region = region.local\n}\n");
    });
    story.refused("the installation's block in its folder", &["misplaced-block"], |repo| {
        more(repo, "customers/acme/more.hcl", "limits {\n  feeds = 70\n}\n");
    });
    refs(&story, plain);

    run(story.repo.git(&["reset", "--quiet", "--hard", &story.head]));
    plain(&story.repo);
    story.repo.rewrite(
        ACME,
        "  key \"web\" {",
        &format!("  key \"web-2\" {{\n    salted_sha256 = \"{HASH}\"\n  }}\n\n  key \"web\" {{"),
    );
    run(story.repo.git(&["rm", "--quiet", "customers/acme/alerts.hcl"]));
    story.repo.rewrite("customers/acme/topology.hcl", "web-*", "www-*");
    run(story.repo.git(&["mv", "customers/acme/topology.hcl", "customers/acme/what.hcl"]));
    add(&story.repo);
    run(story.repo.git(&["commit", "--quiet", "--message", "An honest change"]));
    let honest = story.push(&["HEAD:main"]);
    assert!(honest.status.success(), "{}", String::from_utf8_lossy(&honest.stderr));
    assert_ne!(story.repo.head(), story.head);
    story.head = story.repo.head();
}

/// Paths of others and of the installation.
fn others_paths(story: &Story) {
    let only = "customer acme may change customers/acme/ alone";
    story.refused("a file of the installation", &["kinetic.hcl: ", only], |repo| {
        more(repo, "kinetic.hcl", "region \"local\" {}\n")
    });
    story.refused("a file beside the folder", &["customers/acme.hcl: ", only], |repo| {
        more(repo, "customers/acme.hcl", "\n")
    });
    story.refused("another's file", &["customers/globex/alerts.hcl: ", only], |repo| {
        more(repo, "customers/globex/alerts.hcl", "\n")
    });
    story.refused("another's file, removed", &["customers/globex/alerts.hcl: ", only], |repo| {
        run(repo.git(&["rm", "--quiet", "customers/globex/alerts.hcl"]));
    });
    story.refused(
        "another's file, renamed into the folder",
        &["customers/globex/topology.hcl: ", only],
        |repo| {
            run(repo.git(&["mv", "customers/globex/topology.hcl", "customers/acme/mine.hcl"]));
        },
    );
    story.refused("its file, renamed out of the folder", &["customers/globex/more.hcl: ", only], |repo| {
        run(repo.git(&["mv", "customers/acme/alerts.hcl", "customers/globex/more.hcl"]));
    });
    story.refused("a folder by another case", &["customers/Acme/a.hcl: ", only], |repo| {
        entry(repo, "100644", "customers/Acme/a.hcl")
    });
    story.refused("a folder that begins alike", &["customers/acme2/a.hcl: ", only], |repo| {
        entry(repo, "100644", "customers/acme2/a.hcl")
    });
    story.refused("its folder as a link", &["customers/acme: ", only], |repo| {
        std::fs::remove_dir_all(repo.clone_dir().join("customers/acme")).expect("it was there");
        symlink("globex", repo.clone_dir().join("customers/acme")).expect("a link");
        add(repo);
    });
}

/// Names that are not what they seem, and what is no plain file.
fn odd_names(story: &Story) {
    story.refused("a file by two cases", &["on many file systems these are one file"], |repo| {
        entry(repo, "100644", "customers/acme/Alerts.hcl");
    });
    for (path, shown) in [
        ("customers/acme/.gitattributes", ".gitattributes"),
        ("customers/acme/a\nb.hcl", "a\\nb.hcl"),
        ("customers/acme/a\u{1b}[2J.hcl", "a\\u{1b}[2J.hcl"),
        ("customers/acme/aux.hcl", "aux.hcl"),
        ("customers/acme/a.hcl::$DATA", "a.hcl::$DATA"),
    ] {
        story.refused(path, &[shown, "is no plain name"], |repo| entry(repo, "100644", path));
    }
    story.refused("the repository's own folder by another name", &["hasDotgit"], |repo| {
        entry(repo, "100644", "customers/acme/GIT~1/config");
    });
    story.refused(
        "a symbolic link to another's file",
        &["customers/acme/link.hcl: a symbolic link"],
        |repo| {
            symlink("../globex/customer.hcl", repo.clone_dir().join("customers/acme/link.hcl"))
                .expect("a link");
            add(repo);
        },
    );
    story.refused("a submodule", &["customers/acme/sub: a submodule"], |repo| {
        entry(repo, "160000", "customers/acme/sub")
    });
    story.refused("too many files", &["holds 303 files; 256 are possible"], |repo| {
        (0..300).for_each(|at| repo.write(&(format!("customers/acme/{at}.txt"), String::new())));
        add(repo);
    });
}

/// Refs that a customer may not push to, and ways that it may not go.
fn refs(story: &Story, plain: impl Fn(&SchemaRepo)) {
    run(story.repo.git(&["reset", "--quiet", "--hard", &story.head]));
    plain(&story.repo);
    run(story.repo.git(&["commit", "--quiet", "--message", "A change"]));
    let alone = "customer acme may push to refs/heads/main alone";
    story.expect("another branch", &["refs/heads/mine: ", alone], &["HEAD:refs/heads/mine"]);
    story.expect("a tag beside the branch", &["refs/tags/v1: ", alone], &["HEAD:main", "HEAD:refs/tags/v1"]);
    story.expect(
        "a replacement of commits",
        &[alone],
        &["HEAD:refs/replace/1234567890123456789012345678901234567890"],
    );
    story.expect("the branch, deleted", &["can be neither deleted nor begun anew"], &[":main"]);
    run(story.repo.git(&["checkout", "--quiet", "--orphan", "fresh"]));
    run(story.repo.git(&["commit", "--quiet", "--message", "History anew"]));
    story.expect("the branch, by force", &["only goes forward"], &["--force", "HEAD:main"]);
    run(story.repo.git(&["checkout", "--quiet", "--force", "main"]));
}

#[test]
fn a_customers_push_does_not_change_what_is_the_operators() {
    if !all_here("customer_pushes", &[Need::Git]) {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let story = Story::start(dir.path());
    let at = |line: u32, what: &str| format!("{ACME}:{line}: {what}");
    story.refused("another region", &[&at(2, "`region`")], rewrite("region.local", "region.far"));
    story.refused(
        "more networks",
        &[&at(3, "`netblocks`")],
        rewrite("\"203.0.113.0/24\"", "\"203.0.112.0/23\""),
    );
    story.refused("switched off", &["`disabled`"], rewrite("  limits {", "  disabled = true\n\n  limits {"));
    story.refused("higher limits", &[&at(5, "`limits`")], rewrite("feeds = 7", "feeds = 700"));
    story.refused("no limits", &["`limits`"], rewrite("    feeds = 7\n", ""));
    story.refused(
        "a key that declares",
        &["`may_declare`"],
        rewrite("  key \"web\" {\n", "  key \"web\" {\n    may_declare = true\n"),
    );
    story.refused(
        "a key that speaks for others",
        &["misplaced-purpose"],
        rewrite("  key \"web\" {\n", "  key \"web\" {\n    purpose = \"edge\"\n"),
    );
    story.refused(
        "a certificate that lives on",
        &["a certificate is the operator's to issue"],
        rewrite("2037-01-01", "2047-01-01"),
    );
    story.refused(
        "another certificate",
        &["a certificate is the operator's to issue"],
        rewrite("certificate \"host\"", "certificate \"guest\""),
    );
    story.refused("itself, gone", &["takes customers in and lets them go"], |repo| {
        run(repo.git(&["rm", "-r", "--quiet", "customers/acme"]));
    });
    let source = |attribute: &'static str| {
        move |repo: &SchemaRepo| {
            repo.rewrite(
                "customers/acme/topology.hcl",
                "  data_type = \"statsd\"\n",
                &format!("  data_type = \"statsd\"\n  {attribute}\n"),
            );
            add(repo);
        }
    };
    story.refused(
        "a queue for everything",
        &["`max_length_bytes` of 1099511627776"],
        source("max_length_bytes = \"1024GiB\""),
    );
    story.refused("queues by the dozen", &["`partitions` of 64"], source("partitions = 64"));
    story.refused("a file of the alert node", &["customers/acme/alerts.hcl:", "`secret_file`"], |repo| {
        let hook = "  webhook \"out\" {\n    url         = \"https://acme.example/\"\n    secret_file = \"/etc/kinetic/smtp-password\"\n  }\n}\n\n";
        repo.rewrite("customers/acme/alerts.hcl", "  send_resolved   = false\n}\n\n", &format!("  send_resolved   = false\n\n{hook}"));
        add(repo);
    });
    let wrong = story.repo.git(&["push", "origin", "HEAD:main"]).env("KINETIC_CUSTOMER", "").output();
    assert!(!wrong.status.success(), "an empty name is nobody's");

    // Removing a certificate revokes it, which is the customer's to do; and an operator may do all of it.
    run(story.repo.git(&["reset", "--quiet", "--hard", &story.head]));
    rewrite("feeds = 7", "feeds = 700")(&story.repo);
    run(story.repo.git(&["commit", "--quiet", "--message", "More"]));
    let operator = story.repo.git(&["push", "origin", "HEAD:main"]).output();
    assert!(operator.status.success(), "{}", String::from_utf8_lossy(&operator.stderr));
}

#[test]
fn a_stranger_takes_a_customer_in_with_three_commands() {
    if !all_here("customer_pushes", &[Need::Git]) {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let repo = SchemaRepo::init(dir.path());
    let clone = repo.clone_dir().to_string_lossy().into_owned();
    let say = |words: &[&str]| run(Launch::new(kinetic()).args(words.iter().copied()));
    let first = repo.head();
    let made = say(&["customer", "new", "globex", "--netblock", "203.0.113.0/24", "--schema", &clone]);
    let secret = made
        .lines()
        .find_map(|line| line.strip_prefix("Its secret, shown once:  "))
        .expect("it is shown")
        .to_owned();
    assert!(secret.len() == 48 && made.contains("globex.first"), "{made}");
    repo.push();
    assert_ne!(repo.head(), first);
    let told = say(&["client-config", "globex", "--schema", &repo.remote()]);
    assert!(told.contains("globex.first") && told.contains("in.globex") && !told.contains(&secret), "{told}");

    // The secret is nowhere but on the terminal, or in a file of its owner's.
    let own = dir.path().join("web.secret");
    let own_text = own.to_string_lossy().into_owned();
    let made = say(&["key", "new", "globex", "web", "--schema", &clone, "--secret-file", &own_text]);
    #[expect(clippy::disallowed_methods, reason = "what a command wrote is looked at")]
    let read = |path: &Path| String::from_utf8(std::fs::read(path).expect("it is there")).expect("UTF-8");
    let held = read(&own);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&own).expect("it is there").permissions());
    assert!(
        mode & 0o777 == 0o600 && held.trim().len() == 48 && !made.contains(held.trim()),
        "{mode:o} {made}"
    );
    let again = Launch::new(kinetic())
        .args(["key", "new", "globex", "web-9", "--schema", &clone, "--secret-file", &own_text])
        .output();
    assert!(!again.status.success() && read(&own) == held, "no secret is written over");
    say(&["key", "rotate", "globex", "web", "--overlap", "1h", "--schema", &clone]);
    let keys = say(&["key", "list", "globex", "--schema", &clone]);
    let good: Vec<&str> = keys.lines().filter(|line| line.ends_with("good")).collect();
    assert_eq!(good.len(), 3, "both are good meanwhile: {keys}");
    say(&["key", "revoke", "globex", "web", "--schema", &clone]);
    let text = read(&repo.clone_dir().join("customers/globex/customer.hcl"));
    assert!(
        text.contains("key \"web-2\"") && !text.contains("key \"web\"") && !text.contains(&secret),
        "{text}"
    );
    repo.push();
}
