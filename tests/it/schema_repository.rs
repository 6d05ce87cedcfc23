//! What people push to: `kinetic schema init` makes a repository that checks, refuses a bad commit in the pusher's
//! terminal, and takes a good one.

use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::process::{Launch, kinetic, run};
use kinetic_tests::schema::SchemaRepo;

#[test]
fn a_bad_commit_is_refused_with_its_diagnostics_and_a_good_one_is_taken() {
    if !all_here("schema_repository", &[Need::Git]) {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let repo = SchemaRepo::init(dir.path());
    let clone = repo.clone_dir().to_string_lossy().into_owned();
    let checked = run(Launch::new(kinetic()).args(["check", &clone]));
    assert!(checked.starts_with("ok: "), "what init writes checks: {checked}");

    let first = repo.head();
    let broken = "service \"shop\" {\n  cluster \"hosts\" {\n    source  = source.wbe\n    members = [\"web-*\"]\n  }\n}\n\
                  source \"web\" {\n  data_type = \"statsd\"\n  routing   = [\"#\"]\n}\n";
    repo.write(&("customers/acme/more.hcl".to_owned(), broken.to_owned()));
    let refused = repo.try_push();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "the push must be refused: {said}");
    for words in ["customers/acme/more.hcl", "wbe", "did you mean `web`?", "pre-receive hook declined"] {
        assert!(said.contains(words), "`{words}` is not in the pusher's terminal:\n{said}");
    }
    assert_eq!(repo.head(), first, "nothing has changed");
    let check = Launch::new(kinetic()).args(["check", &clone]).output();
    assert_eq!(check.status.code(), Some(1), "kinetic check says the same");

    repo.write(&("customers/acme/more.hcl".to_owned(), broken.replace("wbe", "web")));
    let taken = repo.try_push();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    assert_ne!(repo.head(), first);
}
