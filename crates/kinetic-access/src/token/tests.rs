//! A signature here is a checksum of the text and the key: the curve is none of this crate's business.

use std::time::Duration;

use kinetic_schema::schema::Tokens;
use kinetic_schema::{Files, load};
use kinetic_wire::names::CONTROL_VHOST;
use proptest::prelude::*;

use super::*;

fn now() -> Wall {
    Wall::from_ms(1_795_000_000_500)
}

fn key(name: &str, public: u8, starts_ms: Option<i64>) -> TokenKey {
    TokenKey { name: name.to_owned(), public: [public; 65], starts_ms }
}

/// One customer with one key.
fn schema() -> Schema {
    let hash = "00".repeat(36);
    let customer = format!(
        "customer \"acme\" {{\n  region = region[\"eu\"]\n  key \"web\" {{\n    salted_sha256 = \"{hash}\"\n  }}\n}}\n"
    );
    let region = "region \"eu\" {\n  vhost = \"e*u\"\n}\n".to_owned();
    let mut files = Files::default();
    files.insert("kinetic.hcl".to_owned(), region.into());
    files.insert("customers/acme/customer.hcl".to_owned(), customer.into());
    let loaded = load(&files);
    let mut schema = loaded.schema.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let keys = vec![key("a", 1, None), key("b", 2, Some(now().as_ms() + 1))];
    schema.tokens = Some(Tokens { ttl: Duration::from_secs(900), keys });
    schema.regions.values_mut().for_each(|region| region.tokens = true);
    schema
}

fn checksum(key: &TokenKey, text: &[u8]) -> [u8; SIGNATURE_BYTES] {
    let sum = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let sum = text.iter().chain(&key.public).fold(0xcbf2_9ce4_8422_2325, sum);
    let mut signature = [0; SIGNATURE_BYTES];
    signature[..8].copy_from_slice(&sum.to_be_bytes());
    signature
}

fn sign(schema: &Schema, text: &str, kid: &str) -> String {
    let key = schema.tokens.iter().flat_map(|tokens| &tokens.keys).find(|key| key.name == kid).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(checksum(key, text.as_bytes())))
}

fn issue(schema: &Schema) -> Unsigned {
    let login = login(schema, "acme.web", now(), CONTROL_VHOST).unwrap();
    Unsigned::new(schema, &login, "a", now(), "id-1".to_owned()).unwrap()
}

fn judged(schema: &Schema, token: &str, now: Wall) -> Result<Proven, TokenRefused> {
    let signed =
        |key: &TokenKey, text: &[u8], signature: &[u8; SIGNATURE_BYTES]| checksum(key, text) == *signature;
    Unproven::read(token)?.judge(schema, CONTROL_VHOST, now, signed)
}

/// A token whose claims were changed before it was signed, as only who has the key can.
fn forged(change: impl FnOnce(&mut Header, &mut Claims)) -> Result<Proven, TokenRefused> {
    let schema = schema();
    let unsigned = sign(&schema, issue(&schema).text(), "a");
    let Unproven { mut header, mut claims, .. } = Unproven::read(&unsigned).unwrap();
    change(&mut header, &mut claims);
    let text = format!("{}.{}", part(&header), part(&claims));
    judged(&schema, &sign(&schema, &text, "a"), now())
}

#[test]
fn a_token_says_what_its_login_may_do_and_holds_until_it_expires() {
    let schema = schema();
    let unsigned = issue(&schema);
    assert_eq!(unsigned.expires_ms, 1_795_000_900_000, "rounded down");
    let token = sign(&schema, unsigned.text(), "a");
    let read = Unproven::read(&token).unwrap();
    assert_eq!(read.claims.scope, "kinetic.write:e%2Au/in.acme/*");
    assert_eq!((read.claims.sub.as_str(), read.claims.aud.as_str()), ("acme.web", "kinetic"));
    let proven = judged(&schema, &token, now()).unwrap();
    assert_eq!(Some(proven.login), login(&schema, "acme.web", now(), CONTROL_VHOST).map(by_token));
    assert_eq!((proven.key.as_str(), proven.expires_ms), ("a", 1_795_000_900_000));
    judged(&schema, &token, Wall::from_ms(1_795_000_899_999)).unwrap();
    let late = judged(&schema, &token, Wall::from_ms(1_795_000_900_000));
    assert_eq!(late.unwrap_err(), TokenRefused::Expired);
}

#[test]
fn it_never_outlives_its_login() {
    let mut schema = schema();
    let expires_ms = now().as_ms() + 9_999;
    schema.customers.values_mut().next().unwrap().keys[0].expires_ms = Some(expires_ms);
    let unsigned = issue(&schema);
    assert!((expires_ms - 1_000..=expires_ms).contains(&unsigned.expires_ms), "{}", unsigned.expires_ms);
    assert_eq!(login(&schema, "acme.web", Wall::from_ms(expires_ms), CONTROL_VHOST), None);
}

#[test]
fn whoever_is_taken_out_of_the_schema_is_out_with_all_its_tokens() {
    let mut schema = schema();
    let token = sign(&schema, issue(&schema).text(), "a");
    let off = |change: &dyn Fn(&mut Schema)| {
        let mut schema = schema.clone();
        change(&mut schema);
        judged(&schema, &token, now()).unwrap_err()
    };
    let customer = |schema: &mut Schema| schema.customers.values_mut().next().unwrap().disabled = true;
    assert_eq!(off(&customer), TokenRefused::Login);
    let login = |schema: &mut Schema| schema.customers.values_mut().next().unwrap().keys.clear();
    assert_eq!(off(&login), TokenRefused::Login);
    let signing = |schema: &mut Schema| drop(schema.tokens.as_mut().unwrap().keys.remove(0));
    assert_eq!(off(&signing), TokenRefused::UnknownKey);
    assert_eq!(off(&|schema| schema.tokens = None), TokenRefused::UnknownKey);
    let moved = |schema: &mut Schema| {
        schema.regions.values_mut().for_each(|region| region.vhost = "elsewhere".to_owned());
    };
    assert_eq!(off(&moved), TokenRefused::Scope);
    schema.regions.values_mut().for_each(|region| region.tokens = false);
    let login = crate::login(&schema, "acme.web", now(), CONTROL_VHOST).unwrap();
    assert!(Unsigned::new(&schema, &login, "a", now(), String::new()).is_none(), "its broker takes none");
}

#[test]
fn what_is_not_ours_is_refused_for_its_reason() {
    forged(|_, _| {}).unwrap();
    let refused = |change: &dyn Fn(&mut Header, &mut Claims)| forged(|h, c| change(h, c)).unwrap_err();
    for alg in ["none", "None", "HS256", "RS256", "es256", ""] {
        assert_eq!(refused(&|header, _| header.alg = alg.to_owned()), TokenRefused::Algorithm, "{alg}");
    }
    assert_eq!(refused(&|header, _| header.kid = "c".to_owned()), TokenRefused::UnknownKey);
    assert_eq!(refused(&|header, _| header.kid = "b".to_owned()), TokenRefused::Signature, "another's key");
    assert_eq!(refused(&|_, claims| claims.aud = "rabbitmq".to_owned()), TokenRefused::Audience);
    assert_eq!(refused(&|_, claims| claims.nbf += AHEAD_MAX_S + 1), TokenRefused::Early);
    assert_eq!(refused(&|_, claims| claims.sub = "acme.other".to_owned()), TokenRefused::Login);
    assert_eq!(refused(&|_, claims| claims.sub = "kinetic".to_owned()), TokenRefused::Login);
    for more in [
        " kinetic.read:*/*",
        " kinetic.write:e%2Au/kin.rpc/*",
        " kinetic.write:e%2Au/in.beta/*",
        " tag:administrator",
        "/x",
    ] {
        assert_eq!(refused(&|_, claims| claims.scope += more), TokenRefused::Scope, "{more}");
    }
    assert_eq!(refused(&|_, claims| claims.scope.clear()), TokenRefused::Scope);
}

#[test]
fn a_changed_token_is_no_token() {
    let schema = schema();
    let token = sign(&schema, issue(&schema).text(), "a");
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        judged(&schema, &changed, now()).unwrap_err();
    }
    for cut in 0..token.len() {
        judged(&schema, &token[..cut], now()).unwrap_err();
    }
    judged(&schema, &format!("{token}="), now()).unwrap_err();
    let crit = URL_SAFE_NO_PAD.encode(br#"{"alg":"ES256","kid":"a","crit":["exp"]}"#);
    let text = format!("{crit}.{}", token.split('.').nth(1).unwrap());
    assert_eq!(judged(&schema, &sign(&schema, &text, "a"), now()).unwrap_err(), TokenRefused::Malformed);
    let long = format!("{token}{}", "A".repeat(TOKEN_BYTES_MAX));
    assert_eq!(Unproven::read(&long).unwrap_err(), TokenRefused::Malformed);
}

#[test]
fn the_newest_key_that_has_started_signs() {
    let schema = schema();
    let who = |at: i64, has: &dyn Fn(&TokenKey) -> bool| {
        signing_key(&schema, Wall::from_ms(at), has).map(|key| key.name.clone())
    };
    assert_eq!(who(now().as_ms(), &|_| true).as_deref(), Some("a"));
    assert_eq!(who(now().as_ms() + 1, &|_| true).as_deref(), Some("b"));
    assert_eq!(who(now().as_ms() + 1, &|key| key.name == "a").as_deref(), Some("a"), "no file for b");
    assert_eq!(who(now().as_ms() + 1, &|_| false), None);
}

#[test]
fn an_edge_may_write_for_all_and_only_the_last_star_is_one() {
    let grant = Grant {
        configure: vec!["a b".to_owned()],
        write: vec!["in.*".to_owned()],
        read: vec!["*x*".to_owned()],
    };
    let scopes = scopes("v/*", &grant);
    assert_eq!(
        scopes,
        ["kinetic.configure:v%2F%2A/a%20b/*", "kinetic.write:v%2F%2A/in.*/*", "kinetic.read:v%2F%2A/%2Ax*/*"]
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), text in "[A-Za-z0-9_.-]{0,200}") {
        fuzz_token(&bytes);
        fuzz_token(text.as_bytes());
    }

    #[test]
    fn no_json_makes_it_panic(header in "[{}\":,a-zA-Z0-9]{0,60}", claims in any::<String>(), exp in any::<i64>()) {
        let parts = |header: &str, claims: &str| {
            format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims), "A".repeat(86))
        };
        fuzz_token(parts(&header, &claims).as_bytes());
        let claims = serde_json::json!({"iss": claims, "sub": claims, "aud": claims, "iat": exp, "nbf": exp, "exp": exp,
            "jti": claims, "scope": claims});
        let token = parts(r#"{"alg":"ES256","kid":"a"}"#, &claims.to_string());
        fuzz_token(token.as_bytes());
        judged(&schema(), &token, Wall::from_ms(exp)).unwrap_err();
    }
}
