//! Who is let in, as whom, and what he takes while he is there.

use crate::account::Account;
use crate::credential::{Credential, Password, TokenGrant, token};
use crate::error::{Failure, Outcome};
use crate::permission::{Access, Permission, User, UserLimits};
use crate::queue::SessionId;
use crate::server::{Clock, Shared, VHostCell, lock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Places among all connections that are kept for users without a limit of their own: the installation's, who must get in
/// when customers have taken all others.
const RESERVED: usize = 64;

/// What a connection got in by.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// One of the credentials that its user has in the table.
    Listed(Credential),
    /// A token, and what it grants.
    Token(TokenGrant),
}

impl Identity {
    /// What the user may do now; nothing when it has been taken away.
    fn user<'a>(&'a self, access: &'a Access, login: &str) -> Option<&'a User> {
        match self {
            Self::Listed(own) => {
                access.users.get(login).filter(|user| user.credentials.iter().any(|one| one.same(own)))
            }
            Self::Token(grant) => {
                let stands = access.tokens.as_ref().is_some_and(|tokens| tokens.stands(grant));
                stands.then_some(&grant.user)
            }
        }
    }

    fn expires_ms(&self) -> i64 {
        match self {
            Self::Listed(_) => i64::MAX,
            Self::Token(grant) => grant.expires_ms,
        }
    }
}

/// Somebody who has shown who he is.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) login: String,
    identity: Identity,
}

/// What a client certificate says, once TLS has proved that the client holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The subject's common name; `None` unless there is exactly one.
    pub(crate) common_name: Option<String>,
    /// SHA-256 of the certificate.
    pub(crate) sha256: [u8; 32],
}

/// The open channels of one login.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    channels: AtomicUsize,
}

/// A channel that counts among its login's, until it drops.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Usage>);

impl Seat {
    /// A seat, if the login has one left.
    pub(crate) fn take(usage: &Arc<Usage>, max: Option<usize>) -> Option<Self> {
        let seat = Self(Arc::clone(usage));
        let taken = usage.channels.fetch_add(1, Ordering::Relaxed);
        // Too many: dropping gives it back.
        max.is_none_or(|max| taken < max).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.channels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection as the rest of the broker sees it.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) id: u64,
    pub(crate) user: Arc<str>,
    pub(crate) vhost: Arc<str>,
    pub(crate) account: Arc<Account>,
    pub(crate) usage: Arc<Usage>,
    identity: Mutex<Identity>,
    closing: Mutex<Option<Failure>>,
    pub(crate) closed: Notify,
}

impl Control {
    /// Asks the connection to close; the first reason stays.
    pub(crate) fn close(&self, failure: Failure) {
        lock(&self.closing).get_or_insert(failure);
        self.closed.notify_one();
    }

    /// Why the connection has to close, if it has to.
    pub(crate) fn closing(&self) -> Option<Failure> {
        lock(&self.closing).clone()
    }

    /// Closes the connection if it may not be there any more.
    pub(crate) fn review(&self, access: &Access) {
        let (user, vhost) = (&self.user, &self.vhost);
        let identity = lock(&self.identity);
        let current = identity.user(access, user);
        let reason = match (current, &*identity) {
            _ if !access.vhosts.contains(&**vhost) => format!("vhost '{vhost}' is deleted"),
            (None, Identity::Token(_)) => format!("the token of user '{user}' is good no more"),
            (None, _) if !access.users.contains_key(&**user) => format!("user '{user}' is deleted"),
            (None, Identity::Listed(Credential::Password(_))) => {
                format!("the password of user '{user}' has changed")
            }
            (None, Identity::Listed(Credential::Certificate(_))) => {
                format!("the certificate of user '{user}' is good no more")
            }
            (Some(now), _) if !now.permissions.contains_key(&**vhost) => {
                format!("user '{user}' has no access to vhost '{vhost}' any more")
            }
            (Some(_), _) => return,
        };
        self.close(Failure::forced(&reason));
    }

    /// Closes the connection if what it got in by has expired.
    fn expire(&self, now_ms: i64) -> bool {
        let expired = lock(&self.identity).expires_ms() <= now_ms;
        if expired {
            self.close(Failure::forced(&format!("the token of user '{}' has expired", self.user)));
        }
        expired
    }
}

/// What a user may do in the vhost of its connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rights {
    pub(crate) permission: Permission,
    pub(crate) limits: UserLimits,
}

/// Everybody who is in.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) controls: BTreeMap<u64, Arc<Control>>,
    /// Connections and channels by login; those alone that have a connection.
    logins: BTreeMap<Arc<str>, (usize, Arc<Usage>)>,
}

/// A client that was let in. Its drop lets it out again, however its task ends: its session goes from the vhost, and
/// its place in the list.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) control: Arc<Control>,
    pub(crate) cell: Arc<VHostCell>,
    shared: Arc<Shared>,
}

impl Drop for Entrance {
    fn drop(&mut self) {
        let id = SessionId(self.control.id);
        self.shared.with(&self.cell, |vhost| vhost.remove_session(id));
        let mut inside = lock(&self.shared.inside);
        inside.controls.remove(&self.control.id);
        if let Some((connections, _)) = inside.logins.get_mut(&self.control.user) {
            *connections -= 1;
            if *connections == 0 {
                inside.logins.remove(&self.control.user);
            }
        }
    }
}

impl Shared {
    /// What the user of a connection may do now; nothing, when it was just removed.
    pub(crate) fn rights(&self, control: &Control) -> Rights {
        let access = self.access();
        let identity = lock(&control.identity);
        let user = identity.user(&access, &control.user);
        let rights = user.and_then(|user| {
            let permission = user.permissions.get(&*control.vhost)?.clone();
            Some(Rights { permission, limits: user.limits })
        });
        rights.unwrap_or_default()
    }

    /// Who it is, if the password is his or is a token.
    pub(crate) fn verify(&self, login: &str, password: &[u8]) -> Option<Verified> {
        let access = self.access();
        if let (Some(text), Some(tokens)) = (token(password), &access.tokens) {
            let now = Clock::wall_ms();
            return match tokens.verify(login, text, now) {
                Ok(grant) if grant.expires_ms > now => {
                    Some(Verified { login: grant.login.clone(), identity: Identity::Token(grant) })
                }
                Ok(grant) => {
                    tracing::info!(login = grant.login, "token refused: it has expired");
                    None
                }
                Err(reason) => {
                    tracing::info!(login, reason, "token refused");
                    None
                }
            };
        }
        let user = access.users.get(login);
        let passwords = user.into_iter().flat_map(|user| &user.credentials).filter_map(|one| match one {
            Credential::Password(password) => Some(password),
            Credential::Certificate(_) => None,
        });
        let (mut tried, mut found) = (false, None);
        for own in passwords {
            tried = true;
            if own.matches(password) {
                found = Some(own);
            }
        }
        if !tried {
            // An unknown login takes as long as a wrong password.
            let _wrong = Password::Salted { salt: [0; 4], digest: [0; 32] }.matches(password);
        }
        if let (None, Some(user)) = (found, user) {
            self.account(&user.owner).count_refused(|refused| refused.login += 1);
        }
        let identity = Identity::Listed(Credential::Password(found?.clone()));
        Some(Verified { login: login.to_owned(), identity })
    }

    /// Who it is, if the certificate is one of the user's that it names.
    pub(crate) fn verify_certificate(&self, peer: &Peer) -> Option<Verified> {
        let login = peer.common_name.as_ref()?;
        let own = Credential::Certificate(peer.sha256);
        let access = self.access();
        let user = access.users.get(login)?;
        if !user.credentials.iter().any(|one| one.same(&own)) {
            self.account(&user.owner).count_refused(|refused| refused.login += 1);
            return None;
        }
        Some(Verified { login: login.clone(), identity: Identity::Listed(own) })
    }

    /// Lets a verified user into a vhost, or refuses with 530.
    pub(crate) fn admit(self: &Arc<Self>, verified: Verified, vhost: &str) -> Outcome<Entrance> {
        let Verified { login, identity } = verified;
        let mut inside = lock(&self.inside);
        // Read under the lock: whoever changes access afterwards finds this connection in the list.
        let access = self.access();
        if !access.vhosts.contains(vhost) {
            return Err(Failure::not_allowed(&format!("vhost {vhost} not found")));
        }
        let user = identity.user(&access, &login);
        let Some(user) = user.filter(|user| user.permissions.contains_key(vhost)) else {
            return Err(Failure::not_allowed(&format!(
                "access to vhost '{vhost}' refused for user '{login}'"
            )));
        };
        let account = self.account(&user.owner);
        let max = user.limits.connections_max;
        let places = self.config.connections_max.saturating_sub(max.map_or(0, |_| self.reserved()));
        let mine = inside.logins.get(&*login).map_or(0, |(connections, _)| *connections);
        let full = match max {
            Some(max) if mine >= max => Some(format!("user connection limit ({max}) is reached")),
            _ if inside.controls.len() >= places => Some("the broker takes no more connections".to_owned()),
            _ => None,
        };
        if let Some(why) = full {
            self.count(|stats| stats.refused.connections += 1);
            account.count_refused(|refused| refused.connections += 1);
            return Err(Failure::not_allowed(&format!("connection refused for user '{login}': {why}")));
        }
        let user: Arc<str> = login.into();
        let (connections, usage) = inside.logins.entry(Arc::clone(&user)).or_default();
        *connections += 1;
        let control = Arc::new(Control {
            id: self.next_id(),
            user,
            vhost: vhost.into(),
            account,
            usage: Arc::clone(usage),
            identity: Mutex::new(identity),
            closing: Mutex::new(None),
            closed: Notify::new(),
        });
        inside.controls.insert(control.id, Arc::clone(&control));
        drop(inside);
        Ok(Entrance { control, cell: self.cell(vhost), shared: Arc::clone(self) })
    }

    fn reserved(&self) -> usize {
        RESERVED.min(self.config.connections_max / 2)
    }

    /// `connection.update-secret`: the same user shows anew who he is, with a newer token or the password. False when he
    /// does not.
    pub(crate) fn renew(&self, control: &Control, secret: &[u8]) -> bool {
        let Some(verified) = self.verify(&control.user, secret).filter(|new| *new.login == *control.user)
        else {
            return false;
        };
        *lock(&control.identity) = verified.identity;
        // Access may have changed between the look and the swap; what changes later finds the new identity.
        control.review(&self.access());
        true
    }

    /// Closes the connections whose token has expired.
    pub(crate) fn expire_tokens(&self) {
        let now = Clock::wall_ms();
        let expired = lock(&self.inside).controls.values().filter(|control| control.expire(now)).count();
        if expired > 0 {
            tracing::debug!(expired, "connections closed with their tokens");
        }
    }
}
