//! A certificate authority: certificates by which clients and brokers know each other, and the list of those taken back.
//!
//! ECDSA on P-256, which every TLS library has. Moments are seconds since the Unix epoch and come from the caller.

use anyhow::{Context, Result, bail, ensure};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevocationReason, RevokedCertParams, SerialNumber,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// A certificate begins to be good this long before it is made, for clocks that are behind.
const CLOCKS_DIFFER_S: i64 = 300;
/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// Characters of a common name (RFC 5280, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whom<'a> {
    /// A client with this login, which is its common name.
    Client(&'a str),
    /// A broker that is reached by these names and addresses.
    Server(&'a [String]),
}

/// Whose key a certificate is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyOf<'a> {
    /// A new one.
    New,
    /// That of a signing request (PEM); whatever else that asks for is left out.
    Request(&'a str),
}

/// A certificate that was just made.
#[derive(Debug)]
pub(crate) struct Issued {
    /// PEM.
    pub(crate) pem: String,
    /// PEM of its key, where that was made here.
    pub(crate) key: Option<Zeroizing<String>>,
    /// Serial number.
    pub(crate) serial: [u8; 16],
    /// SHA-256 of the certificate (DER).
    pub(crate) sha256: [u8; 32],
    /// The last second at which it is good.
    pub(crate) expires_s: i64,
}

/// An authority with its key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    expires_s: i64,
}

impl Authority {
    /// A new one, its certificate, and its key (both PEM).
    pub(crate) fn new(name: &str, now_s: i64, days: u32) -> Result<(Self, Issued)> {
        let key = KeyPair::generate()?;
        let (mut params, serial) = params(name, now_s, days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let expires_s = params.not_after.unix_timestamp();
        let certificate = params.self_signed(&key)?;
        let pem = Zeroizing::new(key.serialize_pem());
        let issued = issued(&certificate, Some(pem), serial, expires_s);
        Ok((Self { issuer: Issuer::new(params, key), expires_s }, issued))
    }

    /// The one of these files (PEM).
    pub(crate) fn read(certificate: &str, key: &str, expires_s: i64) -> Result<Self> {
        let key = KeyPair::from_pem(key).context("the authority's key cannot be read")?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key)
            .context("the authority's certificate cannot be read")?;
        Ok(Self { issuer, expires_s })
    }

    /// The last second at which it is good.
    pub(crate) fn expires_s(&self) -> i64 {
        self.expires_s
    }

    /// Makes a certificate.
    pub(crate) fn issue(&self, whom: Whom<'_>, key: KeyOf<'_>, now_s: i64, days: u32) -> Result<Issued> {
        let (name, usage) = match whom {
            Whom::Client(login) => (login, ExtendedKeyUsagePurpose::ClientAuth),
            Whom::Server(hosts) => {
                let first =
                    hosts.first().context("a broker's certificate needs the names it is reached by")?;
                (first.as_str(), ExtendedKeyUsagePurpose::ServerAuth)
            }
        };
        let (mut params, serial) = params(name, now_s, days)?;
        params.subject_alt_names = match whom {
            Whom::Client(login) => CertificateParams::new([login.to_owned()])?.subject_alt_names,
            Whom::Server(hosts) => CertificateParams::new(hosts)?.subject_alt_names,
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let expires_s = params.not_after.unix_timestamp();
        if expires_s > self.expires_s {
            let left = (self.expires_s - now_s) / DAY_S;
            bail!(
                "the authority itself ends before that: give --days {left} at most, or make a new authority"
            );
        }
        let (certificate, pem) = match key {
            KeyOf::New => {
                let key = KeyPair::generate()?;
                (params.signed_by(&key, &self.issuer)?, Some(Zeroizing::new(key.serialize_pem())))
            }
            KeyOf::Request(pem) => {
                let asked = CertificateSigningRequestParams::from_pem(pem)
                    .context("the signing request cannot be read, or does not hold the key that signed it")?;
                ensure!(
                    asked.public_key.der_bytes() != self.issuer.key().der_bytes(),
                    "the signing request is for the authority's own key"
                );
                let request = CertificateSigningRequestParams { params, public_key: asked.public_key };
                (request.signed_by(&self.issuer)?, None)
            }
        };
        Ok(issued(&certificate, pem, serial, expires_s))
    }

    /// The list of revoked certificates (serial number, when), PEM. It says that it holds until the authority ends: it is replaced by
    /// hand, and one that had run out would shut everybody out.
    pub(crate) fn revocations(&self, revoked: &[([u8; 16], i64)], number: u64, now_s: i64) -> Result<String> {
        let revoked = revoked.iter().map(|(serial, at_s)| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: moment(*at_s)?,
                reason_code: Some(RevocationReason::CessationOfOperation),
                invalidity_date: None,
            })
        });
        let list = CertificateRevocationListParams {
            this_update: moment(now_s - CLOCKS_DIFFER_S)?,
            next_update: moment(self.expires_s)?,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect::<Result<_>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

fn params(name: &str, now_s: i64, days: u32) -> Result<(CertificateParams, [u8; 16])> {
    ensure!(
        (1..=COMMON_NAME_MAX).contains(&name.chars().count()),
        "`{name}` has more than the {COMMON_NAME_MAX} characters of a common name, or none"
    );
    let mut serial: [u8; 16] = rand::random();
    // Positive and without a leading zero, whatever it is written in.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(now_s - CLOCKS_DIFFER_S)?;
    params.not_after = moment(now_s + i64::from(days) * DAY_S)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok((params, serial))
}

fn issued(
    certificate: &Certificate,
    key: Option<Zeroizing<String>>,
    serial: [u8; 16],
    expires_s: i64,
) -> Issued {
    let sha256 = Sha256::digest(certificate.der()).into();
    Issued { pem: certificate.pem(), key, serial, sha256, expires_s }
}

fn moment(at_s: i64) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at_s).context("that moment is beyond the calendar")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20 12:00:00 UTC.
    const NOON_S: i64 = 1_795_176_000;

    #[test]
    fn a_certificate_ends_before_its_authority() {
        let (authority, own) = Authority::new("test", NOON_S, 10).expect("made");
        assert_eq!(own.expires_s, NOON_S + 10 * DAY_S);
        let issued = authority.issue(Whom::Client("acme.host-7"), KeyOf::New, NOON_S, 10).expect("issued");
        assert_eq!(issued.expires_s, NOON_S + 10 * DAY_S);
        let error =
            authority.issue(Whom::Client("acme.host-7"), KeyOf::New, NOON_S, 11).expect_err("refused");
        assert!(error.to_string().contains("--days 10"), "{error}");
        authority.issue(Whom::Server(&[]), KeyOf::New, NOON_S, 1).expect_err("for nobody");
        authority.issue(Whom::Client(&"a".repeat(65)), KeyOf::New, NOON_S, 1).expect_err("too long");
    }

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        let (authority, _) = Authority::new("test", NOON_S, 10).expect("made");
        let key = KeyPair::generate().expect("a key");
        // It asks to be an authority, by another name.
        let mut asked = CertificateParams::new(["broker.example".to_owned()]).expect("names");
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        asked.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let request = asked.serialize_request(&key).expect("a request").pem().expect("PEM");
        let whom = Whom::Client("acme.host-7");
        let issued = authority.issue(whom, KeyOf::Request(&request), NOON_S, 1).expect("issued");
        assert!(issued.key.is_none());
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.pem.as_bytes()).expect("PEM");
        let certificate = pem.parse_x509().expect("X.509");
        assert!(!certificate.is_ca());
        let names: Vec<_> =
            certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
        assert_eq!(names, ["acme.host-7"]);
        let usage = certificate.extended_key_usage().expect("parses").expect("is there").value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        assert_eq!(certificate.public_key().subject_public_key.data.as_ref(), key.der_bytes());
        let broken = request.replacen("MII", "MIJ", 1);
        authority.issue(whom, KeyOf::Request(&broken), NOON_S, 1).expect_err("not signed by its key");
    }
}
