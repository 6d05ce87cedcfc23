//! How long a large repository takes: 20,000 customers with three files each.
//!
//! `cargo test --profile quick -p kinetic-schema --test many -- --ignored --nocapture`

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kinetic_schema::{Files, Netblocks, load, render};

/// A customer's files, as `kinetic customer new` begins with and its people go on with.
fn customer(files: &mut Files, number: usize) {
    let name = format!("c{number}");
    let mut own = format!(
        "customer \"{name}\" {{\n  region    = region.local\n  netblocks = [\"10.{}.{}.0/24\"]\n",
        number / 256 % 256,
        number % 256
    );
    let (third, hash) =
        (number / 65_536, "25841bee307c609f87da43c3d563428a4f7efdf9857f4871fd10465732c4ab11a985a08c");
    assert_eq!(third, 0, "so many networks there are");
    for key in ["web", "web-2", "screens"] {
        writeln!(
            own,
            "\n  key \"{key}\" {{\n    salted_sha256 = \"{hash}\"\n    expires       = \"2027-06-30\"\n  }}"
        )
        .expect("a string");
    }
    writeln!(
        own,
        "\n  user \"owner@{name}.example\" {{\n    password = \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n    role     = \"owner\"\n  }}\n}}"
    )
    .expect("a string");
    let topology = "source \"statsd\" {\n  data_type = \"statsd\"\n  routing   = [\"statsd.#\"]\n}\n\nservice \"web\" {\n  cluster \"frontends\" {\n    source  = source.statsd\n    members = [\"web-*\"]\n  }\n\n  cluster \"backends\" {\n    source  = source.statsd\n    members = [\"app-*\"]\n  }\n}\n";
    let alerts = "analytic \"slow-host\" {\n  on     = service.web\n  metric = \"*.latency\"\n  window = \"10s\"\n  for    = \"3 of 5\"\n\n  rule \"deviates\" {\n    deviations = 3\n    min_feeds  = 11\n    min_effect = \"20%\"\n  }\n}\n\nalert \"on-call\" {\n  analytics = [analytic.slow-host]\n  to        = [\"oncall@example.com\"]\n}\n";
    for (file, text) in [("customer", own.as_str()), ("topology", topology), ("alerts", alerts)] {
        files.insert(format!("customers/{name}/{file}.hcl"), text.as_bytes().to_vec());
    }
}

#[test]
#[ignore = "measures"]
fn twenty_thousand_customers_are_checked_within_seconds() {
    let installation =
        "region \"local\" {}\nmail {\n  relay = \"localhost:25\"\n  from = \"a@b.example\"\n}\n";
    let mut files = Files::from([("kinetic.hcl".to_owned(), installation.as_bytes().to_vec())]);
    (0..20_000).for_each(|number| customer(&mut files, number));
    let bytes: usize = files.values().map(Vec::len).sum();
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    let before = Instant::now();
    let loaded = load(&files);
    let took = before.elapsed();
    let said = render(&loaded.diagnostics, &files, false, 100);
    let schema = loaded.schema.unwrap_or_else(|| panic!("{said}"));
    assert_eq!((schema.customers.len(), said.as_str()), (20_000, "no problems\n"));
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // The most that was held at once.
    let held = status.lines().filter(|line| line.starts_with("VmHWM"));
    let held: Vec<String> = held.map(|line| line.replace('\t', " ")).collect();
    println!("{} files of {bytes} bytes: {took:?}, {}", files.len(), held.join(", "));
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    let before = Instant::now();
    let netblocks = Netblocks::of(&schema);
    let owner = netblocks.owner("10.78.31.7".parse().expect("an address"));
    assert_eq!(owner, Some(&"c19999".into()));
    println!("netblocks: {:?}", before.elapsed());
    assert!(took < Duration::from_secs(60), "{took:?}");
}
