//! collectd's own `amqp` plugin, in all three of its formats at once.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use kinetic_tests::process::{Launch, Process};
use kinetic_tests::schema::{Customer, SECRET, Watch};
use kinetic_tests::tool::COLLECTD;
use kinetic_tests::traffic::{HOSTS, SLOW_HOST, latency};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{first_line, is_about, only_mails_about};

on_both_brokers!(all_three_formats_of_collectd_raise_the_alert, Collectd);

fn all_three_formats_of_collectd_raise_the_alert(kind: BrokerKind) {
    let watch =
        |name, routing| Watch { name, routing, data_type: "collectd", value: "last", ..Watch::default() };
    // collectd's Graphite lines say the host in the metric's name only.
    let graphite =
        Watch { name_template: Some("collectd.{origin}.{metric}"), ..watch("graphite", "graphite") };
    let acme = Customer::acme(&[watch("command", "command"), watch("json", "json"), graphite]);
    let world = World::start(kind, std::slice::from_ref(&acme));
    let engine = world.engine();
    let mut collectd = Collectd::start(&world, &acme);
    eventually("three mails about the slow host", || {
        collectd.put_values();
        let mails = world.smtp.inbox();
        let about = mails.iter().filter(|mail| is_about(mail, SLOW_HOST)).count();
        if about == 3 { Ok(()) } else { Err((engine.analyzer.metrics(), collectd.process.log())) }
    });
    let lines: Vec<String> = world.smtp.inbox().iter().map(first_line).collect();
    for name in ["command", "json", "graphite"] {
        assert!(lines.iter().any(|line| line.contains(&format!("{name}/hosts"))), "{name}: {lines:?}");
    }
    only_mails_about(&world.smtp, SLOW_HOST, 3);
    let rejected = engine.analyzer.metric("kinetic_analyzer_rejects_total");
    assert_eq!(rejected, 0, "{}", engine.analyzer.metrics());
}

/// A running collectd whose values come through its `unixsock` plugin.
struct Collectd {
    process: Process,
    socket: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Collectd {
    fn start(world: &World, customer: &Customer) -> Self {
        let config = world.dir().join("collectd.conf");
        let path = world.dir().join("collectd.sock");
        std::fs::File::create(&config)
            .and_then(|mut file| file.write_all(config_text(world, customer, &path).as_bytes()))
            .expect("write");
        let launch = Launch::new(COLLECTD).args(["-f", "-C", &config.to_string_lossy()]);
        let mut process = launch.start("collectd", &world.dir().join("collectd.log"));
        let socket = eventually("collectd listens", || {
            assert!(process.ended().is_none(), "collectd ended: {}", process.log());
            UnixStream::connect(&path)
        });
        let answers = BufReader::new(socket.try_clone().expect("clone"));
        Self { process, socket, answers }
    }

    /// One value of every host; the slow host is slow from the start.
    fn put_values(&mut self) {
        for host in HOSTS {
            let value = latency(host, true);
            writeln!(self.socket, "PUTVAL \"{host}/checkout/gauge-latency\" interval=1 N:{value}")
                .expect("write");
            let mut answer = String::new();
            self.answers.read_line(&mut answer).expect("read");
            assert!(answer.starts_with("0 Success"), "{answer}");
        }
    }
}

fn config_text(world: &World, customer: &Customer, socket: &Path) -> String {
    let (amqp, vhost, login) = (world.amqp(), world.vhost(), customer.login());
    let publish = |name: &str, more: &str| {
        format!(
            "  <Publish \"{name}\">\n    Host \"127.0.0.1\"\n    Port \"{}\"\n    VHost \"{vhost}\"\n    \
             User \"{login}\"\n    Password \"{SECRET}\"\n    Exchange \"in.{}\"\n    RoutingKey \"{name}\"\n    \
             {more}\n  </Publish>\n",
            amqp.port(),
            customer.name,
        )
    };
    format!(
        "Hostname \"collector\"\nFQDNLookup false\nBaseDir \"{dir}\"\nPIDFile \"{dir}/collectd.pid\"\n\
         TypesDB \"/usr/share/collectd/types.db\"\nInterval 1\nLoadPlugin logfile\n\
         <Plugin logfile>\n  LogLevel \"info\"\n  File STDOUT\n</Plugin>\n\
         LoadPlugin unixsock\n<Plugin unixsock>\n  SocketFile \"{socket}\"\n</Plugin>\n\
         LoadPlugin amqp\n<Plugin amqp>\n{}{}{}</Plugin>\n",
        publish("command", "Format \"Command\""),
        publish("json", "Format \"JSON\""),
        publish("graphite", "Format \"Graphite\"\n    GraphitePrefix \"collectd.\""),
        dir = world.dir().display(),
        socket = socket.display(),
    )
}
