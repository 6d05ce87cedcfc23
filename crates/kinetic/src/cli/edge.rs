//! What turns `kinetic agent` into an edge.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use kinetic_schema::Netblock;

/// `kinetic agent --edge`
#[derive(Debug, Args)]
#[command(next_help_heading = "Edge: lines of all customers, told apart by where they come from")]
pub(crate) struct Edge {
    /// Give each line to the customer whose netblock holds the address that it comes from (docs/operations/edge.md)
    #[arg(long, requires_all = ["schema", "data_dir"], conflicts_with_all = ["unixgram", "origin", "profile", "routing_key"])]
    pub(crate) edge: bool,
    /// Schema repository: a path, or anything git can fetch
    #[arg(long, value_name = "REMOTE", requires = "edge")]
    pub(crate) schema: Option<String>,
    /// Branch of the schema repository
    #[arg(long, default_value = "main", requires = "edge")]
    pub(crate) branch: String,
    /// Seconds between fetches of the schema repository
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "edge")]
    pub(crate) fetch_interval: u64,
    /// Folder for what must survive a restart
    #[arg(long, value_name = "DIR", requires = "edge")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Listen here for carbon's plaintext lines over TCP
    #[arg(long, value_name = "ADDRESS", requires = "edge")]
    pub(crate) carbon: Option<SocketAddr>,
    /// Carbon connections from this network come through a proxy: each begins with a PROXY header (version 2), which says
    /// whose it is. Headers from anywhere else end the connection
    #[arg(long, value_name = "NET", requires = "carbon", value_delimiter = ',')]
    pub(crate) proxy_from: Vec<Netblock>,
    /// Carbon connections open at once
    #[arg(long, value_name = "COUNT", default_value_t = 4096, requires = "carbon")]
    pub(crate) carbon_connections: u32,
    /// Carbon connections open at once from one address, an IPv6 one counting by its /64
    #[arg(long, value_name = "COUNT", default_value_t = 256, requires = "carbon")]
    pub(crate) carbon_connections_per_address: u32,
}
