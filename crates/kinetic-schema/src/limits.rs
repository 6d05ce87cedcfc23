//! Every bound of the language, with its name and the reason for it. Going past one is an error that names it.

use std::time::Duration;

/// Files of one repository that are read. A customer needs three, and may have templates of mails.
pub const FILES_MAX: usize = 200_000;
/// Bytes of one file. A hand-written topology is some kilobytes; a generated one of 10,000 members is 200 KiB.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of all files together, so that a check stays within some seconds and some gigabytes: five kilobytes a customer.
pub const REPOSITORY_BYTES_MAX: usize = 256 << 20;
/// Bytes of one mail template. A whole HTML mail with its styles is some 20 KiB; the engine counts lines and columns in
/// 16 bits, and overflows beyond them.
pub const TEMPLATE_BYTES_MAX: usize = 60 << 10;
/// Instructions that one template may run; a mail of a hundred feeds takes some thousands.
pub const TEMPLATE_FUEL: u64 = 1_000_000;
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
pub const CUSTOMERS_MAX: usize = 50_000;
/// Blocks of one kind that a customer may have: profiles, sources, services, analytics, alerts, tests.
pub const BLOCKS_PER_KIND_MAX: usize = 1_000;
/// Clusters of one service.
pub const CLUSTERS_MAX: usize = 1_000;
/// Entries of one list: members, recipients, netblocks, routing patterns, references.
pub const LIST_MAX: usize = 10_000;
/// Recipients of one alert; a longer list is what mailing lists are for.
pub const RECIPIENTS_MAX: usize = 100;
/// Receivers over HTTP of one alert.
pub const WEBHOOKS_MAX: usize = 16;
/// Steps of escalation of one alert.
pub const ESCALATIONS_MAX: usize = 16;
/// Parts of the week of one `hours` block: two on every day is room to spare.
pub const SPANS_MAX: usize = 32;
/// `hours` blocks that one alert names.
pub const HOURS_LIST_MAX: usize = 32;
/// Labels of one service, cluster or analytic, and of one `match`.
pub const LABELS_MAX: usize = 64;
/// How often an alert is compared with an analytic on a cluster in search of those that nobody hears of; in a larger
/// topology they are not looked for. It is some tenths of a second.
pub const TELLING_STEPS_MAX: usize = 2_000_000;
/// Bytes of a label's value.
pub const LABEL_BYTES_MAX: usize = 255;
/// Bytes of a web address.
pub const URL_BYTES_MAX: usize = 2_048;
/// Relays after the first.
pub const FALLBACKS_MAX: usize = 8;
/// Bytes before the `@` of `bounces`: RFC 5321 allows 64, and `+` and a token come after it.
pub const BOUNCES_LOCAL_BYTES_MAX: usize = 24;
/// Fewest and most mails to a customer's recipients an hour.
pub const MAILS_PER_HOUR: (u32, u32) = (1, 100_000);
/// Mails to a customer's recipients an hour, where it does not say; beyond it they come as a digest.
pub const MAILS_PER_HOUR_DEFAULT: u32 = 60;
/// Routing patterns of one source: each is a binding that the broker evaluates for every message.
pub const ROUTING_PATTERNS_MAX: usize = 256;
/// Parts of one source: each is a queue, and sends its values for every window to the one owner that judges.
pub const PARTITIONS_MAX: u16 = 64;
/// Zones of one region.
pub const ZONES_MAX: usize = 64;
/// Words of a command of `provisioner "exec"`, and variables of `provisioner "docker"`.
pub const WORDS_MAX: usize = 256;
/// Analyzers that a provisioner may keep.
pub const PROVISIONED_MAX: u32 = 1_000;
/// Keys of one customer: two overlap while one is rotated out, and tools may have one each.
pub const KEYS_MAX: usize = 64;
/// Certificates of one customer: each of its hosts may have one.
pub const CERTIFICATES_MAX: usize = 5_000;
/// Users of one customer, and operators.
pub const USERS_MAX: usize = 1_000;
/// Signing keys of tokens: one signs, its predecessors are accepted until what they signed has expired, successors wait.
pub const TOKEN_KEYS_MAX: usize = 16;
/// Shortest and longest time that a token is good.
pub const TOKEN_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));
/// `ttl` of tokens where none is given.
pub const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// Fewest and most KiB of memory that one password's check may take: OWASP's least, and what a board can give to several that log
/// in at once.
pub const ARGON2_MEMORY_KIB: (u32, u32) = (19_456, 131_072);
/// Fewest and most passes over it.
pub const ARGON2_PASSES: (u32, u32) = (2, 10);
/// Fewest and most lanes.
pub const ARGON2_LANES: (u32, u32) = (1, 4);

/// Fewest and most open connections, and channels, of one login.
pub const CONNECTIONS: (u64, u64) = (1, 1_000_000);
/// Smallest and largest message: RabbitMQ takes no larger one.
pub const MESSAGE_BYTES: (u64, u64) = (1 << 10, 512 << 20);
/// Fewest and most samples a second of one customer.
pub const SAMPLES_PER_SECOND: (u64, u64) = (1, 1_000_000_000);
/// Fewest and most feeds, and series, of one source.
pub const SERIES: (u64, u64) = (1, 1_000_000_000);
/// Fewest and most clusters of one customer.
pub const CUSTOMER_CLUSTERS: (u64, u64) = (0, 1_000_000);

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
/// Shortest and longest silence of a feed that is an event. A feed is forgotten after the longest.
pub const SILENT_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));
/// Shortest and longest silence of a node that is an event: it speaks every two seconds, and one lost word is none.
pub const NODE_SILENT_AFTER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(86_400));
/// Shortest and longest silence of a whole customer that is an event.
pub const STREAM_SILENT_AFTER: (Duration, Duration) =
    (Duration::from_secs(5), Duration::from_secs(7 * 86_400));
/// Shortest and longest time that passes before an alert escalates.
pub const ESCALATE_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));
/// Longest time that a provisioner's decisions wait.
pub const SCALE_AFTER_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Shortest and longest time that a command of `provisioner "exec"` may take.
pub const EXEC_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60 * 60));
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

/// How often a silence is looked at where no `window` is given; less often than `after` it never is.
pub const SILENT_WINDOW_DEFAULT: Duration = Duration::from_secs(10);
/// `analyzer_silent_after` and `redirector_silent_after` where none is given.
pub const NODE_SILENT_AFTER_DEFAULT: Duration = Duration::from_secs(60);
/// `scale_up_after` where none is given.
pub const SCALE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(2 * 60);
/// `idle_after` where none is given.
pub const IDLE_AFTER_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// `cool_down` where none is given.
pub const COOL_DOWN_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// `load_high` where none is given.
pub const LOAD_HIGH_DEFAULT: f64 = 0.8;
/// `load_low` where none is given.
pub const LOAD_LOW_DEFAULT: f64 = 0.3;
/// `timeout` of `provisioner "exec"` where none is given.
pub const EXEC_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// `socket` of `provisioner "docker"` where none is given.
pub const DOCKER_SOCKET_DEFAULT: &str = "unix:///var/run/docker.sock";
