//! Who may ask: with a token whoever has it, else only programs of this machine, and no page of another site.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use ::http::header::{self, HeaderMap};
use ::http::uri::Authority;

use super::listen::Listen;
use crate::error::Error;

/// Shortest token: what can be guessed is none.
const MIN_TOKEN: usize = 16;
/// Bytes of a file with a token.
const MAX_TOKEN: u64 = 4096;

/// A secret that clients present as `Authorization: Bearer TOKEN`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A secret is not shown.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token needs at least {MIN_TOKEN} visible ASCII characters and no spaces, in one line")]
pub struct TokenError;

impl Token {
    /// A token, without spaces and line ends around it.
    ///
    /// # Errors
    /// If it is too short, or could not be sent in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() < MIN_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The token in a file.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no token.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io(format!("read the token in {}", path.display()), error);
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text))
            .map_err(failed)?;
        Self::new(&text).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// Compares in a time that tells nothing about how much of it is right.
    fn is(&self, presented: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let mut difference = own.len() ^ presented.len();
        for (index, byte) in own.iter().enumerate() {
            let other = presented.get(index).copied().unwrap_or(0);
            difference |= usize::from(std::hint::black_box(byte ^ other));
        }
        std::hint::black_box(difference) == 0
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is missing or wrong.
    Token,
    /// The request was meant for another host: a page of another site may have made it.
    Host,
}

/// The rules.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// Whoever has the token.
    Token(Token),
    /// Whoever can connect to this machine's own addresses, by one of their names.
    Loopback,
    /// Whoever may open the socket.
    Socket,
}

impl Access {
    pub(super) fn new(listen: &Listen, token: Option<Token>) -> Result<Self, Error> {
        match (listen, token) {
            (_, Some(token)) => Ok(Self::Token(token)),
            (Listen::Unix(_), None) => Ok(Self::Socket),
            (Listen::Tcp(address), None) if address.ip().is_loopback() => Ok(Self::Loopback),
            (Listen::Tcp(address), None) => Err(Error::Permission {
                action: format!("listen at {address}, where others can connect"),
                needs: "a secret that clients present: name a file that holds it with --token-file, or listen \
                        at 127.0.0.1 or unix:/PATH"
                    .to_owned(),
            }),
        }
    }

    /// Whether a request may be answered. `open` ones tell nothing of what was measured.
    pub(super) fn check(&self, headers: &HeaderMap, open: bool) -> Result<(), Refusal> {
        match self {
            Self::Token(token) => {
                let presented = headers
                    .get(header::AUTHORIZATION)
                    .and_then(|value| bearer(value.as_bytes()));
                match presented {
                    _ if open => Ok(()),
                    Some(presented) if token.is(presented) => Ok(()),
                    _ => Err(Refusal::Token),
                }
            }
            Self::Loopback => match headers.get(header::HOST) {
                Some(host) if host.to_str().is_ok_and(is_loopback_name) => Ok(()),
                _ => Err(Refusal::Host),
            },
            Self::Socket => Ok(()),
        }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Whether a `Host` names this machine in a way that no other machine's name can be made to.
fn is_loopback_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn a_token_has_to_be_the_same() {
        let access = Access::Token(Token::new(&format!(" {SECRET}\n")).unwrap());
        let check = |value: &str| access.check(&headers(header::AUTHORIZATION, value), false);
        assert_eq!(check(&format!("Bearer {SECRET}")), Ok(()));
        assert_eq!(check(&format!("bearer {SECRET}")), Ok(()));
        for wrong in [
            "".to_owned(),
            "Bearer ".to_owned(),
            SECRET.to_owned(),
            format!("Basic {SECRET}"),
            format!("Bearer {SECRET}0"),
            format!("Bearer {}", &SECRET[1..]),
            format!("Bearer {}", SECRET.to_uppercase()),
            format!("Bearer  {SECRET}"),
        ] {
            assert_eq!(check(&wrong), Err(Refusal::Token), "{wrong}");
        }
        assert_eq!(access.check(&HeaderMap::new(), false), Err(Refusal::Token));
        assert_eq!(access.check(&HeaderMap::new(), true), Ok(()));
        assert_eq!(format!("{access:?}"), "Token(Token(…))");
    }

    #[test]
    fn what_is_no_token() {
        for text in [
            "",
            "short",
            "with a space in it, and long",
            "zu kurz und ä oder so",
        ] {
            assert_eq!(Token::new(text), Err(TokenError), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(
            Token::read(&path)
                .unwrap_err()
                .one_line()
                .contains("cannot read the token in ")
        );
        std::fs::write(&path, "short\n").unwrap();
        assert!(
            Token::read(&path)
                .unwrap_err()
                .one_line()
                .contains("at least 16")
        );
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        assert_eq!(Token::read(&path).unwrap(), Token(SECRET.to_owned()));
    }

    #[test]
    fn other_names_are_refused_on_loopback() {
        let check = |host: &str| Access::Loopback.check(&headers(header::HOST, host), true);
        for host in [
            "localhost",
            "localhost:7171",
            "LOCALHOST:1",
            "127.0.0.1:7171",
            "127.1.2.3",
            "[::1]:7171",
            "[::1]",
        ] {
            assert_eq!(check(host), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7171",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil@localhost",
            "10.0.0.1",
            "0.0.0.0",
            "localhost, evil.example",
        ] {
            assert_eq!(check(host), Err(Refusal::Host), "{host}");
        }
        assert_eq!(
            Access::Loopback.check(&HeaderMap::new(), true),
            Err(Refusal::Host)
        );
    }

    #[test]
    fn other_addresses_need_a_token() {
        for (listen, allowed) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("unix:/x", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.0.1:1", false),
        ] {
            let listen: Listen = listen.parse().unwrap();
            assert_eq!(Access::new(&listen, None).is_ok(), allowed, "{listen}");
            assert!(Access::new(&listen, Some(Token::new(SECRET).unwrap())).is_ok());
        }
        let error = Access::new(&"0.0.0.0:1".parse().unwrap(), None).unwrap_err();
        assert!(error.one_line().contains("--token-file"));
    }
}
