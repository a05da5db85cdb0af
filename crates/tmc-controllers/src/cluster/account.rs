//! The syncer's account in a member: made, given its rights, verified, and used through short tokens
//! that live in memory only.

use std::time::Duration;

use jiff::Timestamp;
use tmc_api::agent::rules::syncer_rules;
use tmc_api::agent::{AgentId, member};
use tmc_api::hashes::base36_sha224;
use tmc_api::syncer::MissingRights;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::{Connection, Credential, Endpoint, Switch};

use crate::connector::Outbound;
use crate::install::rights::lacking;
use crate::install::token::{self, Issued};
use crate::install::{Problem, Site};

/// Life asked for the tokens of a syncer's account, in seconds.
const TOKEN_SECONDS: i64 = 3600;
/// How long one arrangement may take in all.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// What is to be in the member for a syncer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrangement {
    /// Whose syncer.
    pub(crate) agent: AgentId,
    /// Its namespace in the member.
    pub(crate) namespace: String,
    /// What it syncs.
    pub(crate) synced: Vec<GroupVersionResource>,
}

/// How an arrangement went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arranged {
    /// When.
    pub at: Timestamp,
    /// What is wrong, in our words.
    pub outcome: Result<(), Shortfall>,
}

/// Why the syncer's account cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// The member did not answer: nothing is known anew.
    Unanswered(String),
    /// Something cannot be made, or rights are missing.
    Failed(String),
}

impl From<Problem> for Shortfall {
    fn from(problem: Problem) -> Self {
        let text = problem.to_string();
        if problem.is_answer() {
            Self::Failed(text)
        } else {
            Self::Unanswered(text)
        }
    }
}

/// The account as a way into the member: one connection that outlives its tokens.
#[derive(Clone)]
pub(crate) struct Account {
    agent: AgentId,
    issued: Issued,
    switch: Switch,
    /// The way in; stays the same while tokens come and go.
    pub(crate) connection: Connection,
    /// Changes exactly when `connection` does.
    pub(crate) fingerprint: String,
}

impl Account {
    fn new(agent: &AgentId, endpoint: &Endpoint, issued: Issued, connection: Connection) -> Self {
        let (switch, connection) = Switch::new(connection);
        // With its first token, for another connection to the same account is another way in.
        let (server, owner) = (print_of(endpoint), agent.owner());
        let print = format!("{server}\n{owner}\n{}", issued.token);
        Self {
            agent: agent.clone(),
            fingerprint: base36_sha224(&print),
            issued,
            switch,
            connection,
        }
    }

    /// Whether it is this agent's, on this server, and its token still fresh.
    fn serves(&self, agent: &AgentId, now: Timestamp) -> bool {
        self.agent == *agent && !self.issued.is_due(now)
    }
}

/// What tells one server from another: its URL and trust, not the credential.
pub(super) fn print_of(endpoint: &Endpoint) -> String {
    let ca = String::from_utf8_lossy(endpoint.ca());
    base36_sha224(&format!("{}\n{ca}", endpoint.server()))
}

/// The registered way into a member.
pub(super) struct Registered<'a> {
    pub(super) connection: &'a Connection,
    pub(super) endpoint: &'a Endpoint,
}

/// Whether the token of an account needs renewing, so that arranging cannot wait.
pub(super) fn is_due(account: Option<&Account>, agent: &AgentId, now: Timestamp) -> bool {
    !account.is_some_and(|account| account.serves(agent, now))
}

/// Makes or repairs the account and its rights with the registered credential, gets a token if the
/// present one is due, and asks as that account what it may do.
pub(super) async fn arrange(
    outbound: &Outbound,
    registered: Registered<'_>,
    wanted: &Arrangement,
    before: Option<Account>,
    now: Timestamp,
) -> (Result<(), Shortfall>, Option<Account>) {
    let mut account = before.filter(|account| account.agent == wanted.agent);
    let arranging = attempt(outbound, registered, wanted, &mut account, now);
    let outcome = tokio::time::timeout(TIME_LIMIT, arranging)
        .await
        .unwrap_or_else(|_| {
            let text = format!("the member took longer than {} s", TIME_LIMIT.as_secs());
            Err(Shortfall::Unanswered(text))
        });
    (outcome, account)
}

/// Gets a token if there is none, or the one there is is due, or of an account that is gone.
async fn renew(
    outbound: &Outbound,
    registered: &Registered<'_>,
    wanted: &Arrangement,
    account: &mut Option<Account>,
    now: Timestamp,
) -> Result<(), Shortfall> {
    let client = registered.connection.base_client();
    let (agent, namespace, name) = (&wanted.agent, &*wanted.namespace, wanted.agent.name());
    let uid = token::account_uid(&client, namespace, &name).await?;
    let held = account.as_ref().filter(|held| held.issued.is_of(&uid));
    if !is_due(held, agent, now) {
        return Ok(());
    }
    let issued = token::request(&client, namespace, &name, TOKEN_SECONDS, now).await?;
    let endpoint = registered.endpoint.clone();
    let endpoint = endpoint.with_credential(Credential::Token(issued.token.clone()));
    let connection = outbound.connect(&endpoint).map_err(|_| {
        Shortfall::Failed("the member cannot be reached with the account's token".into())
    })?;
    match account {
        Some(account) => {
            account.switch.set(connection);
            account.issued = issued;
        }
        None => *account = Some(Account::new(agent, &endpoint, issued, connection)),
    }
    Ok(())
}

async fn attempt(
    outbound: &Outbound,
    registered: Registered<'_>,
    wanted: &Arrangement,
    account: &mut Option<Account>,
    now: Timestamp,
) -> Result<(), Shortfall> {
    let agent = &wanted.agent;
    let client = registered.connection.base_client();
    let owned = |object: &serde_json::Value| agent.owns(object);
    let site = Site {
        client: client.clone(),
        owned: &owned,
        given_namespace: (wanted.namespace != agent.name()).then_some(&*wanted.namespace),
    };
    let manifests = member::manifests(agent, &wanted.namespace, &wanted.synced);
    site.ensure_all(&manifests).await?;
    let known = account.is_some();
    renew(outbound, &registered, wanted, account, now).await?;
    let Some(current) = account.as_ref() else {
        return Ok(());
    };
    let as_account = current.connection.base_client();
    let missing = match lacking(
        &as_account,
        &wanted.namespace,
        &syncer_rules(&wanted.synced),
    )
    .await
    {
        Ok(missing) => missing,
        Err(problem) => {
            // Whether it can be used at all is not known: the next attempt gets another token.
            if !known {
                *account = None;
            }
            return Err(problem.into());
        }
    };
    if missing.is_empty() {
        return Ok(());
    }
    // One that was never good enough is not handed to a syncer.
    if !known {
        *account = None;
    }
    Err(Shortfall::Failed(MissingRights::of(&missing).sentence()))
}
