//! `kinetic user new|passwd|list|remove|verify`.

use anyhow::{Context, Result, bail};
use kinetic_schema::Schema;
use kinetic_schema::edit::{self, Literal, NewBlock, Step};
use kinetic_schema::schema::Role;

use super::key::customer;
use crate::adapter::password::{self, Asked};
use crate::checkout::Checkout;
use crate::{BadConfig, cli, exit, people, schema_files, term};

/// The file in which operators are written where there is none yet.
const OPERATORS: &str = "kinetic.hcl";

/// `kinetic user`
pub(crate) fn run(command: cli::User) -> Result<u8> {
    match command {
        cli::User::New(args) => new(&args),
        cli::User::Passwd(args) => passwd(&args),
        cli::User::List(args) => list(&args),
        cli::User::Remove(args) => remove(&args),
        cli::User::Verify(args) => verify(&args),
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Editor => "editor",
        Role::Owner => "owner",
        Role::Operator => "operator",
    }
}

fn new(args: &cli::UserNew) -> Result<u8> {
    let (mut checkout, schema) = Checkout::open(&args.checkout)?;
    if people::people(&schema).any(|(_, user)| user.name == args.name) {
        bail!(BadConfig(format!("there is a user `{}` already", args.name)));
    }
    let owner = args.customer.as_deref().map(|name| customer(&schema, name)).transpose()?;
    let password = password::read(&args.name, args.password_file.as_deref(), Asked::Twice)?;
    let mut attributes = vec![("password", Literal::Text(people::hash(password.expose())?))];
    let role = args.role.map(|role| match role {
        cli::Role::Viewer => Role::Viewer,
        cli::Role::Editor => Role::Editor,
        cli::Role::Owner => Role::Owner,
    });
    if owner.is_some() {
        attributes.push(("role", Literal::Text(word(role.unwrap_or(Role::Viewer)).to_owned())));
    }
    let block = NewBlock { step: ("user", &args.name), attributes };
    match owner {
        Some(owner) => {
            let owner: Step<'_> = ("customer", owner.name.as_str());
            checkout.edit(&[owner], |text| edit::add_block(text, &[owner], &block))?;
        }
        None => checkout.edit_file(OPERATORS, |text| edit::add_block(text, &[], &block))?,
    }
    checkout.save(&format!("User {}", args.name))?;
    Ok(0)
}

/// Where the block of a user stands.
fn place<'a>(schema: &'a Schema, name: &'a str) -> Result<Vec<Step<'a>>> {
    let (customer, user) = people::people(schema)
        .find(|(_, user)| user.name == name)
        .with_context(|| BadConfig(format!("there is no user `{name}`")))?;
    let owner = customer.map(|customer| ("customer", customer.as_str()));
    Ok(owner.into_iter().chain([("user", user.name.as_str())]).collect())
}

fn passwd(args: &cli::UserPassword) -> Result<u8> {
    let (mut checkout, schema) = Checkout::open(&args.checkout)?;
    let place = place(&schema, &args.name)?;
    let password = password::read(&args.name, args.password_file.as_deref(), Asked::Twice)?;
    let hash = Literal::Text(people::hash(password.expose())?);
    checkout.edit(&place, |text| edit::set_attribute(text, &place, "password", &hash))?;
    checkout.save(&format!("User {} has another password", args.name))?;
    Ok(0)
}

fn remove(args: &cli::UserRemove) -> Result<u8> {
    let (mut checkout, schema) = Checkout::open(&args.checkout)?;
    let place = place(&schema, &args.name)?;
    checkout.edit(&place, |text| edit::remove_block(text, &place))?;
    checkout.save(&format!("User {} is removed", args.name))?;
    Ok(0)
}

fn list(args: &cli::OfCustomers) -> Result<u8> {
    let schema = schema_files::load(&args.schema)?;
    if let Some(name) = &args.customer {
        customer(&schema, name)?;
    }
    let wanted = |owner: Option<&kinetic_wire::CustomerName>| {
        args.customer.as_deref().is_none_or(|name| owner.is_some_and(|owner| owner.as_str() == name))
    };
    let all = people::people(&schema).filter(|(owner, _)| wanted(*owner));
    if args.json {
        let shown = all.map(|(owner, user)| {
            serde_json::json!({"name": user.name, "customer": owner, "role": word(user.role)})
        });
        term::say(&format!("{}\n", serde_json::to_string_pretty(&shown.collect::<Vec<_>>())?));
        return Ok(0);
    }
    let rows = all.map(|(owner, user)| {
        let owner = owner.map_or_else(|| "-".to_owned(), ToString::to_string);
        [user.name.clone(), owner, word(user.role).to_owned()]
    });
    term::say(&term::table(["USER", "CUSTOMER", "ROLE"], rows));
    Ok(0)
}

fn verify(args: &cli::UserVerify) -> Result<u8> {
    let schema = schema_files::load(&args.schema)?;
    let password = password::read(&args.name, args.password_file.as_deref(), Asked::Once)?;
    let Some(person) = people::authenticate(&schema, &args.name, password.expose()) else {
        term::say("no: there is no such user, or this is not the password\n");
        return Ok(exit::NO);
    };
    let of = person.customer.map_or_else(|| "the installation".to_owned(), |customer| customer.to_string());
    term::say(&format!("yes: {} is {} of {of}\n", person.name, word(person.role)));
    Ok(0)
}
