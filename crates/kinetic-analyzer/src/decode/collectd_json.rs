//! collectd's JSON format: an array of value lists, each with the kinds and names of its values.
//!
//! ```text
//! [{"values":[11.4,9.2],"dstypes":["derive","derive"],"dsnames":["rx","tx"],"host":"web-1","plugin":"interface",
//!   "plugin_instance":"eth0","type":"if_octets","type_instance":"",…}]
//!       ─▶ interface.eth0.if_octets.rx and .tx of web-1; a single value goes without its data source's name
//! ```

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::collectd::Parts;
use crate::decode::json::{self, Text};
use crate::decode::{
    Context, JSON_VALUES_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, Notes, VALUES_PER_LIST_MAX, number, text,
};
use crate::sample::{Field, Kind, Reject, Sample, TagSyntax};

/// One value list; members that are not named here (`interval`, `meta`) say nothing that is needed.
#[derive(Debug, Deserialize)]
struct ValueList<'a> {
    #[serde(borrow)]
    values: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    dstypes: Vec<Text<'a>>,
    #[serde(borrow, default)]
    dsnames: Vec<Text<'a>>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    host: Text<'a>,
    #[serde(borrow)]
    plugin: Text<'a>,
    #[serde(borrow, default)]
    plugin_instance: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    type_instance: Text<'a>,
}

/// Reads a body. An element that is no value list is refused alone; a body that is no JSON array, as a whole.
pub(super) fn decode(
    context: &Context<'_>,
    body: &[u8],
    each: &mut impl FnMut(Sample<'_>),
    reject: &mut impl FnMut(Reject, &[u8]),
) -> Notes {
    let mut notes = Notes::default();
    let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(body) else {
        reject(Reject::Malformed, text::head(body, LINE_BYTES_MAX));
        return notes;
    };
    let mut name = String::new();
    let mut values_read = 0;
    for raw in elements {
        if values_read >= JSON_VALUES_MAX {
            reject(Reject::TooManyLines, text::head(raw.get().as_bytes(), LINE_BYTES_MAX));
            break;
        }
        notes.lines += 1;
        values_read += 1;
        let element = text::head(raw.get().as_bytes(), LINE_BYTES_MAX);
        let read = serde_json::from_str::<ValueList<'_>>(raw.get())
            .map_err(|_| Reject::Malformed)
            .and_then(|list| list.read(context, &mut name, element, each, reject));
        match read {
            Ok(values) => values_read += values,
            Err(reason) => reject(reason, element),
        }
    }
    notes
}

impl ValueList<'_> {
    /// Hands on what the list holds, once all of it is known to be good; says how many values that were.
    fn read(
        &self,
        context: &Context<'_>,
        name: &mut String,
        element: &[u8],
        each: &mut impl FnMut(Sample<'_>),
        reject: &mut impl FnMut(Reject, &[u8]),
    ) -> Result<u64, Reject> {
        let (plugin, kind) = (&*self.plugin.0, &*self.kind.0);
        let (plugin_instance, type_instance) = (&*self.plugin_instance.0, &*self.type_instance.0);
        if plugin.is_empty() || kind.is_empty() {
            return Err(Reject::EmptyName);
        }
        Parts { plugin, plugin_instance, kind, type_instance }.join(name)?;
        self.check(name)?;
        let at = match self.time {
            None => None,
            Some(time) => {
                let at = number::seconds(time.get()).filter(|at| *at <= context.latest());
                Some(at.ok_or(Reject::BadTimestamp)?)
            }
        };
        for (index, raw) in self.values.iter().enumerate() {
            let Some(value) = json::number(raw) else {
                reject(Reject::Unknown, element);
                continue;
            };
            let source = self.dsnames.get(index).map_or("", |name| &*name.0);
            each(Sample {
                name,
                field: (self.values.len() > 1).then_some(Field::Dotted(source)),
                tags: "",
                tag_syntax: TagSyntax::None,
                origin: if self.host.0.is_empty() { None } else { Some(&self.host.0) },
                kind: self.dstypes.get(index).map_or(Kind::Gauge, |kind| kind_of(&kind.0)),
                value,
                rate: 1.0,
                at,
            });
        }
        Ok(self.values.len() as u64)
    }

    fn check(&self, name: &str) -> Result<(), Reject> {
        if !json::is_clean(name) || !json::is_clean(&self.host.0) {
            return Err(Reject::BadText);
        }
        let count = self.values.len();
        let named = count == 1 || self.dsnames.len() == count;
        if count == 0 || count > VALUES_PER_LIST_MAX || !named {
            return Err(Reject::Malformed);
        }
        for source in &self.dsnames {
            if source.0.is_empty() {
                return Err(Reject::EmptyName);
            }
            if !json::is_clean(&source.0) {
                return Err(Reject::BadText);
            }
            if name.len() + 1 + source.0.len() > NAME_BYTES_MAX {
                return Err(Reject::NameTooLong);
            }
        }
        // null stands for "unknown": the first reading of a rate, a value that could not be had.
        let good = |raw: &&RawValue| raw.get() == "null" || json::number(raw).is_some();
        if self.values.iter().all(good) { Ok(()) } else { Err(Reject::BadValue) }
    }
}

/// collectd's data source types. `absolute` is set back to zero by every reading, so it counts since the last one.
fn kind_of(name: &str) -> Kind {
    match name {
        "counter" | "derive" => Kind::Total,
        "absolute" => Kind::Counter,
        _ => Kind::Gauge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Format;
    use crate::decode::exercise::testing::see;
    use kinetic_wire::Wall;

    fn check(body: &str, expect: &[&str]) {
        let context = Context::bare(Wall::from_secs(1_795_164_112));
        let seen = see(Format::CollectdJson, &context, body.as_bytes());
        let rejects = seen.rejects.iter().map(|(reason, _)| format!("!{}", reason.name()));
        assert_eq!(seen.samples.iter().cloned().chain(rejects).collect::<Vec<_>>(), expect, "{body}");
    }

    const LOAD: &str = r#"{"values":[6.4,null,2],"dstypes":["gauge","derive","absolute"],"dsnames":["shortterm","midterm","longterm"],"time":1795159693.372,"interval":2.000,"host":"web01.example.com","plugin":"load","plugin_instance":"","type":"load","type_instance":"","meta":{"a":[1]}}"#;

    #[test]
    fn value_lists_as_collectd_writes_them() {
        check(
            &format!("[{LOAD}]"),
            &[
                "web01.example.com/load.load.shortterm=6.4 gauge @1795159693372000000",
                "web01.example.com/load.load.longterm=2 counter @1795159693372000000",
                "!unknown_value",
            ],
        );
        check(
            r#"[{"values":[9],"dstypes":["derive"],"dsnames":["value"],"time":1795159693,"host":"we\u0062","plugin":"cpu","plugin_instance":"0","type":"cpu","type_instance":"idle"}]"#,
            &["web/cpu.0.cpu.idle=9 total @1795159693000000000"],
        );
    }

    #[test]
    fn kinds() {
        for (kind, expect) in
            [("gauge", "gauge"), ("counter", "total"), ("derive", "total"), ("absolute", "counter")]
        {
            let body = format!(r#"[{{"values":[1],"dstypes":["{kind}"],"plugin":"p","type":"t"}}]"#);
            check(&body, &[&format!("p.t=1 {expect}")]);
        }
    }

    #[test]
    fn a_bad_element_leaves_its_neighbours_alone() {
        for (element, reason) in [
            ("7", "malformed"),
            (r#"{"plugin":"a","type":"b"}"#, "malformed"),
            (r#"{"values":[],"plugin":"a","type":"b"}"#, "malformed"),
            (r#"{"values":[1,2],"dsnames":["x"],"plugin":"a","type":"b"}"#, "malformed"),
            (r#"{"values":["1"],"plugin":"a","type":"b"}"#, "bad_value"),
            (r#"{"values":[1e999],"plugin":"a","type":"b"}"#, "bad_value"),
            (r#"{"values":[1],"plugin":"","type":"b"}"#, "empty_name"),
            (r#"{"values":[1],"plugin":"a\u0000","type":"b"}"#, "bad_text"),
            (r#"{"values":[1],"plugin":"a","type":"b","host":"\n"}"#, "bad_text"),
            (r#"{"values":[1],"plugin":"a","type":"b","time":-1}"#, "bad_timestamp"),
            (r#"{"values":[1],"plugin":"a","type":"b","time":1895164112}"#, "bad_timestamp"),
        ] {
            let good = r#"{"values":[1],"plugin":"p","type":"t"}"#;
            check(
                &format!("[{good},{element},{good}]"),
                &["p.t=1 gauge", "p.t=1 gauge", &format!("!{reason}")],
            );
        }
        check("{}", &["!malformed"]);
        check("[{}", &["!malformed"]);
        check("[]", &[]);
    }
}
