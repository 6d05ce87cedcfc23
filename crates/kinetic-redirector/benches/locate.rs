//! `locate` answers in process, with a small and a large map; and placing after the loss of one analyzer.
//! `cargo bench -p kinetic-redirector`

use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use kinetic_redirector::machine::{
    Effect, Input, MapBuilder, PlacingConfig, Redirector, RedirectorConfig, ReplyToken, Stored,
};
use kinetic_wire::{DataType, Incarnation, Limits, Locate, Login, Mono, Now, RegionName, Wall, encode};
use uuid::Uuid;

fn main() {
    divan::main();
}

const NOW: Now = Now { mono: Mono(1), wall: Wall(1_795_000_000_000_000_000) };

fn leading(customers: usize) -> Redirector {
    let address = ("amqps://broker.us-west.aws.example:5671".to_owned(), "us-west.aws".to_owned());
    let mut map = MapBuilder::new("r1", 1);
    let region = RegionName::new("us-west.aws");
    map.region(&region, vec![address.clone(), address], Vec::new());
    for i in 0..customers {
        map.customer(&format!("customer-{i}").as_str().into(), &region, false);
        map.source("web", DataType::Statsd, 1, 0).profile("web");
    }
    let config = RedirectorConfig {
        node: "r1".into(),
        ttl: Duration::from_secs(15),
        grace: Duration::from_secs(5),
        listen: Duration::ZERO,
        analyzers_max: 1000,
        locate_ttl: Duration::from_secs(300),
        limits: Limits { message_bytes: 1 << 20, batch_ms: 1000 },
        seed: 1,
        placing: PlacingConfig::default(),
    };
    let mut machine = Redirector::new(config, Arc::new(map.build()), Stored::default());
    let mut effects = Vec::new();
    machine.handle(NOW, Input::Elected { stored: Stored::default() }, &mut effects);
    if let Some(Effect::Store { stored }) = effects.pop() {
        machine.handle(NOW, Input::Stored { stored }, &mut effects);
    }
    machine
}

#[divan::bench(args = [1, 1_000, 1_000_000], sample_size = 2_000)]
fn locate(bencher: Bencher<'_, '_>, customers: usize) {
    let mut machine = leading(customers);
    let body = encode(&Locate {
        v: 1,
        client: Incarnation(Uuid::from_u128(9)),
        origin: Some("web-1.example".to_owned()),
        profile: Some("web".to_owned()),
        data_types: vec![DataType::Statsd],
        have_epoch: None,
        listen: false,
    });
    let logins: Vec<Login> =
        (0..1024).map(|i| format!("customer-{}.2026-a", i * 7919 % customers).as_str().into()).collect();
    let mut effects = Vec::new();
    let mut asked = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        effects.clear();
        asked += 1;
        let login = Some(&logins[asked % 1024]);
        let request = Input::Request {
            token: ReplyToken(asked as u64),
            kind: "locate",
            login,
            caller: None,
            waiting: 0,
            body: &body,
        };
        machine.handle(NOW, request, &mut effects);
        divan::black_box(&effects);
    });
}
