//! Links in mails: what stands behind `mail.public_url`.

use kinetic_schema::schema::Mail;

use crate::id::{GroupKey, MailNames};

/// Bytes of `mail.public_url` up to which mails have links; a longer one would not fit a header.
const PUBLIC_URL_MAX: usize = 200;

/// Where one recipient leaves one alert block (RFC 8058), `<public_url>/u/<token>`. The token is a keyed hash that names the
/// recipient and the list and holds neither. `None` where the installation is not reached over HTTPS.
pub(crate) fn unsubscribe(
    mail: &Mail,
    names: &MailNames<'_>,
    group: &GroupKey,
    alert: &str,
    to: &str,
) -> Option<String> {
    let url = mail.public_url.as_deref()?;
    let fit = url.len() <= PUBLIC_URL_MAX && url.starts_with("https://");
    fit.then(|| format!("{url}/u/{}", names.subscription(&group.customer, alert, to)))
}
