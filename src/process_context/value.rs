//! Values of attributes: the kinds that OpenTelemetry allows for attributes of a resource.

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Text.
    String(String),
    /// True or false.
    Bool(bool),
    /// A whole number.
    I64(i64),
    /// A floating-point number.
    F64(f64),
    /// An array of texts.
    Strings(Vec<String>),
    /// An array of booleans.
    Bools(Vec<bool>),
    /// An array of whole numbers.
    I64s(Vec<i64>),
    /// An array of floating-point numbers.
    F64s(Vec<f64>),
}

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

macro_rules! from {
    ($($kind:ty => $variant:ident),* $(,)?) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}

from! {
    String => String,
    bool => Bool,
    i64 => I64,
    f64 => F64,
    Vec<String> => Strings,
    Vec<bool> => Bools,
    Vec<i64> => I64s,
    Vec<f64> => F64s,
}

/// A kind of value that a later version of `opentelemetry` may add becomes its text.
#[cfg(feature = "otel")]
impl From<&opentelemetry::Value> for Value {
    fn from(value: &opentelemetry::Value) -> Self {
        use opentelemetry::{Array, Value as Otel};
        match value {
            Otel::String(text) => text.as_str().into(),
            Otel::Bool(value) => Self::Bool(*value),
            Otel::I64(value) => Self::I64(*value),
            Otel::F64(value) => Self::F64(*value),
            Otel::Array(Array::String(texts)) => {
                Self::Strings(texts.iter().map(|text| text.as_str().to_owned()).collect())
            }
            Otel::Array(Array::Bool(values)) => Self::Bools(values.clone()),
            Otel::Array(Array::I64(values)) => Self::I64s(values.clone()),
            Otel::Array(Array::F64(values)) => Self::F64s(values.clone()),
            other => Self::String(other.as_str().into_owned()),
        }
    }
}

#[cfg(all(test, feature = "otel"))]
mod tests {
    use super::Value;
    use opentelemetry::{Array, Value as Otel};

    #[test]
    fn every_kind_of_opentelemetry_keeps_its_kind() {
        let pairs = [
            (Otel::from("a"), Value::from("a")),
            (Otel::from(true), Value::from(true)),
            (Otel::from(-3_i64), Value::from(-3_i64)),
            (Otel::from(0.5), Value::from(0.5)),
            (
                Otel::Array(Array::String(vec!["a".into(), "b".into()])),
                Value::Strings(vec!["a".into(), "b".into()]),
            ),
            (
                Otel::Array(Array::Bool(vec![true, false])),
                Value::from(vec![true, false]),
            ),
            (
                Otel::Array(Array::I64(vec![1, -1])),
                Value::from(vec![1_i64, -1]),
            ),
            (
                Otel::Array(Array::F64(vec![1.5])),
                Value::from(vec![1.5_f64]),
            ),
        ];
        for (otel, expected) in pairs {
            assert_eq!(Value::from(&otel), expected);
        }
    }
}
