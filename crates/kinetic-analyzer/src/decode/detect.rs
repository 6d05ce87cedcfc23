//! The ladder: what a body is, when the schema does not say or says only the family. First hit wins.
//!
//! ```text
//! schema's word ▸ envelope type ▸ exact content type ▸ app_id ▸ exchange, routing key ▸ the body itself
//! ```
//! `text/plain`, `application/octet-stream`, `application/json` and nothing at all say nothing. Where the first lines
//! do not agree, the body is not guessed at: it is dead-lettered, and counted.

use kinetic_wire::DataType;

use crate::decode::sniff::{self, Shape};
use crate::decode::{Context, Format};
use crate::sample::{Foreign, Reject};

/// How a body, already inflated, is to be read.
///
/// # Errors
/// The body is to be dead-lettered whole: `Undetected` where nothing fits, `Refused` for a known format that is not
/// read here.
pub fn detect(context: &Context<'_>, body: &[u8]) -> Result<Format, Reject> {
    if sniff::is_pickle(body) {
        return Err(Reject::Refused(Foreign::Pickle));
    }
    match context.data_type {
        DataType::Auto => {}
        declared => return within(declared, context, body),
    }
    if let Some(kind) = context.kind.and_then(|kind| kind.strip_prefix("kinetic.data.")) {
        return match kind {
            "statsd.v1" | "dogstatsd.v1" => Ok(Format::Statsd),
            "collectd.v1" => within(DataType::Collectd, context, body),
            "graphite.v1" => within(DataType::Graphite, context, body),
            "influx.v1" => within(DataType::Influx, context, body),
            _ => Err(Reject::Undetected),
        };
    }
    if let Some(family) = by_label(context)? {
        return within(family, context, body);
    }
    let hinted = by_key(context)?;
    // A routing key is chosen freely: where the body does not bear it out, the body decides.
    if let Some(format) = hinted.and_then(|family| within(family, context, body).ok()) {
        return Ok(format);
    }
    match sniff::shape(context, body) {
        Shape::Known(format) => Ok(format),
        Shape::Foreign(foreign) => Err(Reject::Refused(foreign)),
        Shape::None => Err(Reject::Undetected),
    }
}

/// The media type without its parameters.
fn media_type<'a>(context: &Context<'a>) -> &'a str {
    let content_type = context.content_type.unwrap_or("");
    content_type.split_once(';').map_or(content_type, |(media, _)| media).trim()
}

/// What the publisher's own labels say, where they are exact.
fn by_label(context: &Context<'_>) -> Result<Option<DataType>, Reject> {
    let media = media_type(context);
    let is = |name: &str| media.eq_ignore_ascii_case(name);
    if media.len() >= 23 && media.as_bytes()[..23].eq_ignore_ascii_case(b"application/cloudevents") {
        return Err(Reject::Refused(Foreign::CloudEvents));
    }
    if is("text/collectd") || context.app_id == Some("collectd") {
        return Ok(Some(DataType::Collectd));
    }
    if is("text/graphite") {
        return Ok(Some(DataType::Graphite));
    }
    if is("text/x-statsd") || is("text/x-dogstatsd") || context.app_id == Some("statsdAMQP") {
        return Ok(Some(DataType::Statsd));
    }
    if is("text/x-influx-line") {
        return Ok(Some(DataType::Influx));
    }
    Ok(None)
}

/// What the exchange or routing key says.
fn by_key(context: &Context<'_>) -> Result<Option<DataType>, Reject> {
    match context.routing_key {
        "otlp_metrics" | "otlp_spans" | "otlp_logs" => return Err(Reject::Refused(Foreign::Otlp)),
        _ if matches!(context.exchange, "keepalives" | "results") => {
            return Err(Reject::Refused(Foreign::Sensu));
        }
        _ => {}
    }
    Ok(context.routing_key.starts_with("collectd.").then_some(DataType::Collectd))
}

/// The format within a family, by what the families' own tools put into a body.
fn within(family: DataType, context: &Context<'_>, body: &[u8]) -> Result<Format, Reject> {
    let first = body.trim_ascii_start().first().copied();
    let graphite = media_type(context).eq_ignore_ascii_case("text/graphite");
    match family {
        // The backends of a statsd daemon send JSON or graphite lines; no statsd line begins like an object.
        DataType::Statsd if first == Some(b'{') => Ok(Format::StatsdBackendJson),
        DataType::Statsd if graphite => Ok(Format::Graphite),
        DataType::Statsd => Ok(Format::Statsd),
        DataType::Collectd if first == Some(b'[') => Ok(Format::CollectdJson),
        DataType::Collectd if graphite => Ok(Format::Graphite),
        DataType::Collectd => match sniff::first_line(body) {
            Some(line) if sniff::is_putval(line) => Ok(Format::CollectdCommand),
            Some(line) if sniff::graphite_tokens(line) == Some(3) => Ok(Format::Graphite),
            _ => Err(Reject::Undetected),
        },
        DataType::Graphite => {
            let keyed = sniff::first_line(body).is_some_and(|line| sniff::graphite_tokens(line) == Some(2));
            if keyed && !context.routing_key.is_empty() {
                Ok(Format::GraphiteKeyed)
            } else {
                Ok(Format::Graphite)
            }
        }
        DataType::Influx => Ok(Format::Influx),
        DataType::Auto => Err(Reject::Undetected),
    }
}

#[cfg(test)]
mod tests;
