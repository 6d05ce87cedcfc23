//! Every bound of the language, with its name and the reason for it. Going past one is an error that names it.

use std::time::Duration;

/// Files of one repository that are read. A customer needs three; this is room for some thousands.
pub const FILES_MAX: usize = 20_000;
/// Bytes of one file. A hand-written topology is some kilobytes; a generated one of 10,000 members is 200 KiB.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of all files together, so that a check stays within some seconds and some hundred megabytes.
pub const REPOSITORY_BYTES_MAX: usize = 64 << 20;
/// Nesting of brackets, braces, parentheses and templates, as the parser bounds it. The language itself needs five
/// levels.
pub const NESTING_MAX: usize = 64;
/// Syntax errors that are skipped over in one file in search of more.
pub const SYNTAX_ERRORS_MAX: usize = 20;
/// Diagnostics kept; the rest are counted in a last one, since nobody reads more.
pub const DIAGNOSTICS_MAX: usize = 1_000;

/// Regions of an installation.
pub const REGIONS_MAX: usize = 1_000;
/// Customers of an installation.
pub const CUSTOMERS_MAX: usize = 10_000;
/// Blocks of one kind that a customer may have: profiles, sources, services, analytics, alerts, tests.
pub const BLOCKS_PER_KIND_MAX: usize = 1_000;
/// Clusters of one service.
pub const CLUSTERS_MAX: usize = 1_000;
/// Entries of one list: members, recipients, netblocks, routing patterns, references.
pub const LIST_MAX: usize = 10_000;
/// Recipients of one alert; a longer list is what mailing lists are for.
pub const RECIPIENTS_MAX: usize = 100;
/// Routing patterns of one source: each is a binding that the broker evaluates for every message.
pub const ROUTING_PATTERNS_MAX: usize = 256;
/// Keys of one customer: two overlap while one is rotated out, and tools may have one each.
pub const KEYS_MAX: usize = 64;

/// Bytes of a name. With it, `src.<customer>.<source>` stays far under AMQP's 255 bytes for a queue name.
pub const NAME_BYTES_MAX: usize = 63;
/// Bytes of a region's name, which is also a vhost.
pub const REGION_NAME_BYTES_MAX: usize = 127;
/// Bytes of a routing pattern: an AMQP 0-9-1 short string.
pub const ROUTING_BYTES_MAX: usize = 255;
/// Bytes of a glob.
pub const GLOB_BYTES_MAX: usize = 255;
/// Bytes of an analytic's description, which goes into every mail.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;

/// Shortest window.
pub const WINDOW_MIN: Duration = Duration::from_millis(100);
/// Longest window plus lateness: deliveries stay unacknowledged that long, and RabbitMQ closes the channel of a
/// consumer that holds one for 30 minutes. A third leaves room for a slow broker and a late timer.
pub const HOLD_MAX: Duration = Duration::from_secs(10 * 60);
/// RabbitMQ's default `consumer_timeout`.
pub const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Longest `lateness`.
pub const LATENESS_MAX: Duration = Duration::from_secs(5 * 60);
/// Longest `group_wait`.
pub const GROUP_WAIT_MAX: Duration = Duration::from_secs(60 * 60);
/// Shortest and longest `group_interval`.
pub const GROUP_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3_600));
/// Shortest and longest `repeat_interval`.
pub const REPEAT_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 86_400));
/// Longest hysteresis: `m of n` is kept as the bits of one 64-bit word per feed.
pub const HYSTERESIS_WINDOWS_MAX: u32 = 64;
/// Largest `deviations`.
pub const DEVIATIONS_MAX: f64 = 1_000.0;
/// Largest `min_feeds`.
pub const MIN_FEEDS_MAX: u32 = 1_000_000;

/// `lateness` where none is given.
pub const LATENESS_DEFAULT: Duration = Duration::from_secs(2);
/// `min_feeds` where none is given: with two feeds each is as far from the mean as the other.
pub const MIN_FEEDS_DEFAULT: u32 = 3;
/// `group_wait` where none is given.
pub const GROUP_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// `group_interval` where none is given.
pub const GROUP_INTERVAL_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// `repeat_interval` where none is given.
pub const REPEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(4 * 3_600);
/// `origin_tag` where none is given.
pub const ORIGIN_TAG_DEFAULT: &str = "host";
/// `max_length` where none is given, in messages.
pub const MAX_LENGTH_DEFAULT: u64 = 100_000;
/// `max_length_bytes` where none is given.
pub const MAX_LENGTH_BYTES_DEFAULT: u64 = 256 << 20;
