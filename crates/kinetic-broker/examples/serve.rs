//! A broker for one user, `guest` with password `guest` on vhost `/`: `cargo run -p kinetic-broker --example serve -- 5672`.

#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use kinetic_broker::{Access, Broker, BrokerConfig, Password, Permission, User};
use std::collections::BTreeMap;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let user = User::new(
        "guest",
        Password::Plain("guest".into()),
        BTreeMap::from([("/".into(), Permission::all())]),
    );
    let access = Access {
        vhosts: ["/".to_owned()].into(),
        users: BTreeMap::from([("guest".to_owned(), user)]),
        ..Access::default()
    };
    let config = BrokerConfig { listen: ([127, 0, 0, 1], port).into(), ..BrokerConfig::default() };
    let broker = Broker::bind(config, access).await?;
    println!("amqp://guest:guest@{}/%2f", broker.local_addr());
    broker.run().await;
    Ok(())
}
