//! `cargo xtask test`: builds the binary, runs every test of the workspace, and says which stories did not run.

use anyhow::{Result, bail};

use crate::shell::{call, cargo, read, root, say};

/// Environment variable that names what must not be missing; read by the stories' harness.
const REQUIRE: &str = "KINETIC_STORIES_REQUIRE";
/// Environment variable that names the file into which the harness writes what it skipped.
const SKIPPED: &str = "KINETIC_STORIES_SKIPPED";

/// Environment variable that says how many tests of one binary run at once.
const THREADS: &str = "RUST_TEST_THREADS";
/// Tests at once per processor: stories wait for leases, windows and brokers more than they work.
const THREADS_PER_PROCESSOR: usize = 2;

/// Environment variable that asks for the long forms of stories; read by the stories' harness.
const LONG: &str = "KINETIC_LONG";

/// How to test.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// What must not be missing.
    pub(crate) required: Vec<&'static str>,
    /// With the long forms of stories, which take a quarter of an hour more.
    pub(crate) long: bool,
    /// For the test binaries.
    pub(crate) args: Vec<String>,
}

impl Options {
    /// Reads the words behind `cargo xtask test`.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = words.iter();
        for word in rest.by_ref() {
            match word.as_str() {
                "--require-rabbitmq" => options.required.push("rabbitmq"),
                "--require-tools" => {
                    options.required.extend(["collectd", "pika", "python", "git", "postfix", "postgresql"])
                }
                "--long" => options.long = true,
                "--" => break,
                word if word.starts_with("--require") => bail!("{word} is not known: see cargo xtask"),
                _ => options.args.push(word.to_owned()),
            }
        }
        options.args.extend(rest.cloned());
        Ok(options)
    }
}

/// Builds and tests.
pub(crate) fn run(options: &Options) -> Result<()> {
    // The stories run the binary; with the whole workspace the features are those that the tests are built with.
    call(cargo(&["build", "--workspace", "--bins"]))?;
    let skipped = root().join("target").join("skipped-stories.txt");
    std::fs::remove_file(&skipped).ok();
    let mut words = vec!["test", "--workspace", "--no-fail-fast"];
    if !options.args.is_empty() {
        words.push("--");
        words.extend(options.args.iter().map(String::as_str));
    }
    let mut command = cargo(&words);
    command.env(SKIPPED, &skipped).env(REQUIRE, options.required.join(","));
    // `-- --test-threads=N` has the last word.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    command.env(THREADS, (processors * THREADS_PER_PROCESSOR).to_string());
    if options.long {
        command.env(LONG, "1");
    }
    let outcome = call(command);
    if skipped.exists() {
        say(&banner(&read(&skipped)?));
    }
    outcome
}

/// What was skipped, too loud to be overlooked.
fn banner(skipped: &str) -> String {
    let mut stories: Vec<&str> = skipped.lines().filter(|line| !line.is_empty()).collect();
    stories.sort_unstable();
    stories.dedup();
    let rule = "!".repeat(100);
    let mut text = format!(
        "\n{rule}\n!! {} STORIES WERE SKIPPED: what they need is not on this machine\n",
        stories.len()
    );
    for story in stories {
        text.push_str(&format!("!!   {story}\n"));
    }
    text.push_str(&format!(
        "!! On Debian: apt-get install rabbitmq-server collectd-core libyajl2 python3-pika postgresql\n{rule}\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_and_arguments_are_told_apart() {
        let options = parse(&["--require-rabbitmq", "--long", "smtp", "--", "--nocapture"]).expect("parses");
        assert_eq!(options.required, ["rabbitmq"]);
        assert!(options.long);
        assert_eq!(options.args, ["smtp", "--nocapture"]);
        parse(&["--require-rabbit"]).expect_err("a mistyped requirement must not be ignored");
    }

    #[test]
    fn the_banner_names_each_story_once() {
        let text = banner("b: no RabbitMQ\na: no RabbitMQ\nb: no RabbitMQ\n");
        assert!(text.contains("2 STORIES"), "{text}");
        assert_eq!(text.matches("!!   b: no RabbitMQ").count(), 1, "{text}");
    }
}
