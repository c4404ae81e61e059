//! Attributes of a request: what to read from it, and the values until its record is built.
//!
//! Values are read before the handler takes the request, but the record can be built only when its ids are known:
//! often at the first poll. In between they lie in the future itself, without an allocation.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::Method;
use http::request::Parts;
use otel_profiling::{AttributeKey, Record, SpanIds};

/// Name of the attribute with the request's method.
pub(crate) const METHOD: &str = "http.request.method";
/// Name of the attribute with the route that the request was matched to.
pub(crate) const ROUTE: &str = "http.route";

type Extract = dyn for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync;

/// One attribute, and where its value comes from.
#[derive(Clone)]
pub(crate) struct Attribute {
    key: AttributeKey,
    extract: Arc<Extract>,
}

impl Attribute {
    pub(crate) fn new<F>(key: AttributeKey, extract: F) -> Self
    where
        F: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        Self {
            key,
            extract: Arc::new(extract),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.key.name()
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attribute").field(&self.key.name()).finish()
    }
}

/// The method as the semantic conventions want it: one of a fixed list, or `_OTHER`.
pub(crate) fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 10] = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
    ];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("_OTHER")
}

/// Attributes that are kept without an allocation: as many as custom labels have room for beside the ids.
const INLINE_VALUES: usize = 8;
/// Bytes of values that are kept without an allocation.
const INLINE_BYTES: usize = 192;
/// More of a value is never read by anybody. It is one character more than a record takes, so that the record
/// still notices, and counts, that the value was cut.
const MAX_VALUE: usize = 255 + 4;

/// The values of a request's attributes, in order.
#[derive(Debug)]
pub(crate) struct Values(Kept);

#[derive(Debug)]
enum Kept {
    Inline {
        ends: [Option<(AttributeKey, u8)>; INLINE_VALUES],
        bytes: [u8; INLINE_BYTES],
    },
    Heap(Vec<(AttributeKey, Box<str>)>),
}

impl Values {
    pub(crate) const NONE: Self = Self(Kept::Inline {
        ends: [None; INLINE_VALUES],
        bytes: [0; INLINE_BYTES],
    });

    /// Reads the values of `attributes` from a request.
    pub(crate) fn read(attributes: &[Attribute], request: &Parts) -> Self {
        let mut values = Self::NONE;
        for attribute in attributes {
            if let Some(value) = (attribute.extract)(request) {
                values.push(attribute.key, cut(&value));
            }
        }
        values
    }

    fn push(&mut self, key: AttributeKey, value: &str) {
        if let Kept::Inline { ends, bytes } = &mut self.0 {
            if push_inline(ends, bytes, key, value).is_some() {
                return;
            }
            let mut kept = Vec::with_capacity(2 * INLINE_VALUES);
            kept.extend(inline(ends, bytes).map(|(key, value)| (key, value.into())));
            self.0 = Kept::Heap(kept);
        }
        if let Kept::Heap(kept) = &mut self.0 {
            kept.push((key, value.into()));
        }
    }

    /// The record of a span with these attributes: one allocation.
    pub(crate) fn record(&self, ids: SpanIds) -> Record {
        match &self.0 {
            Kept::Inline { ends, bytes } => {
                let Some((first, _)) = ends[0] else {
                    return Record::new(ids);
                };
                let mut attributes = [(first, ""); INLINE_VALUES];
                let mut count = 0;
                for (place, attribute) in attributes.iter_mut().zip(inline(ends, bytes)) {
                    *place = attribute;
                    count += 1;
                }
                Record::with_attributes(ids, attributes.get(..count).unwrap_or_default())
            }
            Kept::Heap(kept) => {
                let attributes: Vec<_> = kept.iter().map(|(key, value)| (*key, &**value)).collect();
                Record::with_attributes(ids, &attributes)
            }
        }
    }
}

/// Appends a value; `None` if there is no room.
fn push_inline(
    ends: &mut [Option<(AttributeKey, u8)>; INLINE_VALUES],
    bytes: &mut [u8; INLINE_BYTES],
    key: AttributeKey,
    value: &str,
) -> Option<()> {
    let start = ends.iter().flatten().last().map_or(0, |(_, end)| *end);
    let place = ends.iter_mut().find(|place| place.is_none())?;
    let end = u8::try_from(usize::from(start) + value.len()).ok()?;
    let room = bytes.get_mut(usize::from(start)..usize::from(end))?;
    room.copy_from_slice(value.as_bytes());
    *place = Some((key, end));
    Some(())
}

fn inline<'a>(
    ends: &'a [Option<(AttributeKey, u8)>; INLINE_VALUES],
    bytes: &'a [u8; INLINE_BYTES],
) -> impl Iterator<Item = (AttributeKey, &'a str)> {
    let mut start = 0;
    ends.iter().flatten().map(move |&(key, end)| {
        let value = bytes.get(start..usize::from(end)).unwrap_or_default();
        start = usize::from(end);
        // Whole values were copied in, so this is always text.
        (key, str::from_utf8(value).unwrap_or_default())
    })
}

/// The start of `value`, whole characters only; at most [`MAX_VALUE`] bytes, and more than a record takes if `value`
/// has more.
fn cut(value: &str) -> &str {
    if value.len() <= MAX_VALUE {
        return value;
    }
    let end = (0..=MAX_VALUE)
        .rev()
        .find(|&end| value.is_char_boundary(end));
    end.and_then(|end| value.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use otel_profiling::published;

    fn ids() -> SpanIds {
        SpanIds::new([1; 16], [2; 8], 1).unwrap()
    }

    fn published(values: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let mut kept = Values::NONE;
        for (name, value) in values {
            kept.push(AttributeKey::new(name).unwrap(), cut(value));
        }
        kept.record(ids()).publish_while(published::attributes)
    }

    #[test]
    fn values_come_out_as_they_went_in_whether_inline_or_not() {
        assert_eq!(published(&[]), []);
        let names: Vec<_> = (0..12).map(|n| format!("values.{n}")).collect();
        for count in 1..=12 {
            for length in [0, 1, 20, 40] {
                let value = "ä".repeat(length / 2);
                let values: Vec<_> = names[..count]
                    .iter()
                    .map(|name| (&**name, &*value))
                    .collect();
                let published = published(&values);
                let expected: Vec<_> = values.iter().map(|&(n, v)| (n, v.to_owned())).collect();
                assert_eq!(published, expected);
            }
        }
    }

    #[test]
    fn a_value_is_cut_by_the_record_which_counts_it() {
        let before = otel_profiling::counters().values_cut;
        let huge = "€".repeat(400_000);
        let values = published(&[("values.huge", &huge), ("values.small", "x")]);
        assert_eq!(values[0].1, "€".repeat(85));
        assert_eq!(values[1].1, "x");
        assert_eq!(otel_profiling::counters().values_cut, before + 1);
    }

    #[test]
    fn the_cut_leaves_more_than_a_record_takes() {
        for character in ["x", "ä", "€", "𝄞"] {
            let long = character.repeat(1000);
            let end = cut(&long).len();
            assert!((256..=MAX_VALUE).contains(&end), "{end} for {character}");
        }
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn methods_are_those_of_a_list() {
        assert_eq!(known_method(&Method::GET), "GET");
        assert_eq!(known_method(&Method::PATCH), "PATCH");
        let made_up = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(known_method(&made_up), "_OTHER");
        let lower = Method::from_bytes(b"get").unwrap();
        assert_eq!(known_method(&lower), "_OTHER");
    }
}
