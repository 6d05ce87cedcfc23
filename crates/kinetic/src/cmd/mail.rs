//! `kinetic mail`: the mails that alerts send, looked at before they are.

use std::path::Path;

use anyhow::{Context, Result};
use kinetic_alert::{AlertConfig, Email, NoPreview};
use kinetic_schema::Schema;
use kinetic_schema::schema::Dkim;

use crate::adapter::dkim::Signer;
use crate::adapter::{clock, file, mime};
use crate::{BadConfig, cli, node, schema_files, term};

/// Key of the ids in a preview's headers: those of a real mail are made with the node's own.
const ID_KEY: [u8; 32] = [0; 32];
/// Name of the picture, from the HTML beside it.
const PICTURE: &str = "mail.png";

/// `kinetic mail preview`
pub(crate) fn preview(args: &cli::MailPreview) -> Result<u8> {
    let schema = schema_files::load(&args.schema)?;
    let config = AlertConfig { serves_links: true, ..node::alert_config(&schema, ID_KEY) };
    let customer = args.customer.as_str().into();
    let now = clock::now().wall;
    let refused = |why| BadConfig(refusal(args, &schema, &why));
    if let Some(webhook) = &args.webhook {
        let post = kinetic_alert::preview_post(config, &schema, &customer, &args.alert, webhook, now);
        let body: serde_json::Value = serde_json::from_str(&post.map_err(refused)?.body)?;
        term::say(&format!("{}\n", serde_json::to_string_pretty(&body)?));
        return Ok(0);
    }
    let email = kinetic_alert::preview(config, &schema, &customer, &args.alert, now).map_err(refused)?;
    let signer = signer(&schema);
    if args.eml {
        let formed = mime::formed(&email, signer.as_ref())?;
        term::say(&String::from_utf8(formed.bytes).context("the message is not text")?);
        return Ok(0);
    }
    if let Some(dir) = &args.out {
        write(dir, &email, signer.as_ref())?;
    }
    let Email { from, to, subject, text, .. } = &email;
    term::say(&format!("From: {from}\nTo: {to}\nSubject: {subject}\n\n{text}"));
    Ok(0)
}

fn refusal(args: &cli::MailPreview, schema: &Schema, why: &NoPreview) -> String {
    let known: Vec<&str> = schema.customers.keys().map(kinetic_wire::CustomerName::as_str).collect();
    match why {
        NoPreview::Customer => {
            format!("no customer named `{}`; there is {}", args.customer, known.join(", "))
        }
        why => format!("no preview of alert `{}` of `{}`: {why}", args.alert, args.customer),
    }
}

/// Whoever looks at a mail need not have the key that signs it.
fn signer(schema: &Schema) -> Option<Signer> {
    let declared: &Dkim = schema.mail.as_ref()?.dkim.as_ref()?;
    let signer = Signer::new(declared);
    signer.map_err(|error| term::complain(&error.context("the preview is not signed"))).ok()
}

fn write(dir: &Path, email: &Email, signer: Option<&Signer>) -> Result<()> {
    file::make_dir(dir)?;
    let formed = mime::formed(email, signer)?;
    let html = email.html.replace(&format!("cid:{}", email.picture_id()), PICTURE);
    file::write_atomically(&dir.join("mail.eml"), &formed.bytes)?;
    file::write_atomically(&dir.join("mail.html"), html.as_bytes())?;
    file::write_atomically(&dir.join("mail.txt"), email.text.as_bytes())?;
    match email.plot.as_ref().and_then(mime::picture) {
        Some(png) => file::write_atomically(&dir.join(PICTURE), &png),
        None => Ok(()),
    }
}
