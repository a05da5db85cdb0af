//! The keys at work: made, kept, used.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tmc_apimachinery::status::{ApiError, Result};

use super::claims::Claims;
use super::ring::{Algorithm, Key, Ring};
use crate::environment::SharedEnvironment;

/// Where the private keys are kept between starts: a private place, written whole or not at all.
pub trait KeyVault: Send + Sync {
    /// Names the place, for messages.
    fn place(&self) -> String;

    /// What was saved last; `None` if nothing was.
    ///
    /// # Errors
    /// A sentence that names the place.
    fn load(&self) -> std::result::Result<Option<Vec<u8>>, String>;

    /// Replaces it; durable when this returns.
    ///
    /// # Errors
    /// A sentence that names the place.
    fn save(&self, contents: &[u8]) -> std::result::Result<(), String>;
}

/// A key ready for use.
struct Ready {
    algorithm: Algorithm,
    signer: EncodingKey,
    verifier: DecodingKey,
}

#[derive(Default)]
struct State {
    ring: Ring,
    ready: HashMap<String, Arc<Ready>>,
}

/// The rotating keys of one hub.
pub(crate) struct Keys {
    vault: Option<Arc<dyn KeyVault>>,
    environment: SharedEnvironment,
    state: Mutex<State>,
}

impl Keys {
    /// Takes up the keys of a vault; without one they live as long as the process, and are made of
    /// the environment's randomness.
    ///
    /// # Errors
    /// When the vault cannot be read or holds something else.
    pub(crate) fn open(
        vault: Option<Arc<dyn KeyVault>>,
        environment: SharedEnvironment,
    ) -> std::result::Result<Self, String> {
        let saved = vault.as_ref().map_or(Ok(None), |vault| vault.load())?;
        let mut state = State::default();
        if let Some(bytes) = saved {
            // The parser's words would quote the keys.
            let place = vault
                .as_ref()
                .map(|vault| vault.place())
                .unwrap_or_default();
            let unreadable = || {
                format!(
                    "{place} does not hold keys of service account tokens; restore it, or remove it \
                     to have new keys made, which ends all tokens"
                )
            };
            state.ring = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
            for key in &state.ring.keys {
                let ready = Ready::of(key).ok_or_else(unreadable)?;
                state.ready.insert(key.id.clone(), Arc::new(ready));
            }
        }
        Ok(Self {
            vault,
            environment,
            state: Mutex::new(state),
        })
    }

    /// Signs claims with the key whose turn it is at the time they are issued.
    ///
    /// # Errors
    /// 500 if a key cannot be made or saved; nothing was signed then.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String> {
        let (id, key) = self.signer(claims.iat, claims.exp)?;
        let mut header = Header::new(key.algorithm.name());
        header.typ = None;
        header.kid = Some(id);
        jsonwebtoken::encode(&header, claims, &key.signer).map_err(ApiError::internal)
    }

    /// The claims of a token that one of the keys signed, unchecked otherwise. `None` for any other
    /// text.
    pub(crate) fn open_token(&self, token: &str) -> Option<Claims> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let key = self.state.lock().ready.get(&header.kid?)?.clone();
        // The key says what it is for, not the token.
        let mut validation = Validation::new(key.algorithm.name());
        // Times and audience are compared in `Claims::check`, with the environment's clock.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.verifier, &validation).ok()?;
        Some(decoded.claims)
    }

    /// The key to sign with. What must be known of it after a restart is saved first. The file is
    /// written under the lock: about once a day, and never two at a time.
    fn signer(&self, now: i64, expires: i64) -> Result<(String, Arc<Ready>)> {
        let mut state = self.state.lock();
        let mut ring = state.ring.clone();
        let mut fresh = None;
        if ring.is_due(now) {
            let (key, ready) = self.make(now).ok_or_else(|| {
                ApiError::internal("a key for service account tokens could not be made")
            })?;
            fresh = Some((key.id.clone(), Arc::new(ready)));
            ring.rotate(now, key);
        }
        let changed = ring.reserve(expires) || fresh.is_some();
        if let (true, Some(vault)) = (changed, &self.vault) {
            let bytes = serde_json::to_vec(&ring).map_err(ApiError::internal)?;
            vault.save(&bytes).map_err(ApiError::internal)?;
        }
        state.ready.extend(fresh);
        state
            .ready
            .retain(|id, _| ring.keys.iter().any(|key| key.id == *id));
        state.ring = ring;
        let newest = state.ring.keys.last().map(|key| key.id.clone());
        newest
            .and_then(|id| Some((id.clone(), state.ready.get(&id)?.clone())))
            .ok_or_else(|| ApiError::internal("there is no key for service account tokens"))
    }

    fn make(&self, now: i64) -> Option<(Key, Ready)> {
        let (algorithm, private) = if self.vault.is_some() {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
            (Algorithm::Es256, pair.to_pkcs8v1().ok()?)
        } else {
            let pair = Ed25519KeyPair::from_seed_unchecked(&self.seed()).ok()?;
            (Algorithm::EdDsa, pair.to_pkcs8v1().ok()?)
        };
        let private = private.as_ref();
        let key = Key {
            id: key_id(&public(algorithm, private)?),
            algorithm,
            created: now,
            verifies_until: now,
            private: STANDARD.encode(private),
        };
        let ready = Ready::of(&key)?;
        Some((key, ready))
    }

    /// Two random uids carry 244 random bits.
    fn seed(&self) -> [u8; 32] {
        let text = format!("{}{}", self.environment.uid(), self.environment.uid());
        Sha256::digest(text.as_bytes()).into()
    }
}

fn key_id(public: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(public))
}

fn public(algorithm: Algorithm, private: &[u8]) -> Option<Vec<u8>> {
    Some(match algorithm {
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private).ok()?;
            pair.public_key().as_ref().to_vec()
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8(private).ok()?;
            pair.public_key().as_ref().to_vec()
        }
    })
}

impl Algorithm {
    fn name(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl Ready {
    fn of(key: &Key) -> Option<Self> {
        let private = STANDARD.decode(&key.private).ok()?;
        let public = public(key.algorithm, &private)?;
        let (signer, verifier) = match key.algorithm {
            Algorithm::Es256 => (
                EncodingKey::from_ec_der(&private),
                DecodingKey::from_ec_der(&public),
            ),
            Algorithm::EdDsa => (
                EncodingKey::from_ed_der(&private),
                DecodingKey::from_ed_der(&public),
            ),
        };
        Some(Self {
            algorithm: key.algorithm,
            signer,
            verifier,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::super::claims::{Reference, Subject};
    use super::super::ring::PERIOD;
    use super::*;
    use crate::environment::{Environment, SystemEnvironment};

    #[derive(Default)]
    struct Drawer(Mutex<Option<Vec<u8>>>);

    impl KeyVault for Drawer {
        fn place(&self) -> String {
            "the drawer".into()
        }

        fn load(&self) -> std::result::Result<Option<Vec<u8>>, String> {
            Ok(self.0.lock().clone())
        }

        fn save(&self, contents: &[u8]) -> std::result::Result<(), String> {
            *self.0.lock() = Some(contents.to_vec());
            Ok(())
        }
    }

    struct Broken;

    impl KeyVault for Broken {
        fn place(&self) -> String {
            "the broken one".into()
        }

        fn load(&self) -> std::result::Result<Option<Vec<u8>>, String> {
            Ok(None)
        }

        fn save(&self, _: &[u8]) -> std::result::Result<(), String> {
            Err("the disk is full".into())
        }
    }

    struct Replayed;

    impl Environment for Replayed {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn uid(&self) -> String {
            "the same".into()
        }
    }

    fn claims(iat: i64, exp: i64) -> Claims {
        Claims {
            aud: vec!["api".into()],
            exp,
            iat,
            iss: "me".into(),
            jti: "j".into(),
            subject: Subject {
                namespace: "ns".into(),
                account: Reference {
                    name: "robot".into(),
                    uid: "u".into(),
                },
                ..Subject::default()
            },
            nbf: iat,
            sub: "system:serviceaccount:ns:robot".into(),
        }
    }

    fn keys(vault: Option<Arc<dyn KeyVault>>) -> Keys {
        Keys::open(vault, Arc::new(SystemEnvironment)).expect("opens")
    }

    #[rstest]
    #[case::kept(Some(Arc::new(Drawer::default()) as Arc<dyn KeyVault>))]
    #[case::in_memory(None)]
    fn what_was_signed_opens_and_nothing_else(#[case] vault: Option<Arc<dyn KeyVault>>) {
        let keys = keys(vault);
        let token = keys.sign(&claims(0, 600)).expect("signed");
        assert_eq!(keys.open_token(&token), Some(claims(0, 600)));
        let parts: Vec<&str> = token.split('.').collect();
        let other = keys.sign(&claims(0, 9999)).expect("signed");
        let others: Vec<&str> = other.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for forged in [
            format!("{}.{}.{}", parts[0], others[1], parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            String::new(),
        ] {
            assert_eq!(keys.open_token(&forged), None, "{forged}");
        }
    }

    #[test]
    fn another_hubs_token_does_not_open() {
        let (ours, theirs) = (keys(None), keys(None));
        let token = theirs.sign(&claims(0, 600)).expect("signed");
        ours.sign(&claims(0, 600)).expect("signed");
        assert_eq!(ours.open_token(&token), None);
    }

    #[test]
    fn a_header_that_names_another_algorithm_does_not_open() {
        let keys = keys(Some(Arc::new(Drawer::default())));
        let token = keys.sign(&claims(0, 600)).expect("signed");
        let kid = jsonwebtoken::decode_header(&token).expect("a header").kid;
        // The public key is no secret: it must not verify as the secret of an HMAC.
        let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid.clone_from(&kid);
        let secret = EncodingKey::from_secret(kid.unwrap_or_default().as_bytes());
        let forged = jsonwebtoken::encode(&header, &claims(0, 600), &secret).expect("encoded");
        assert_eq!(keys.open_token(&forged), None);
    }

    #[test]
    fn keys_survive_a_restart_and_old_ones_verify_after_a_rotation() {
        let vault = Arc::new(Drawer::default());
        let first = keys(Some(vault.clone()));
        let long = first.sign(&claims(0, 2 * PERIOD)).expect("signed");
        let brief = first.sign(&claims(0, 600)).expect("signed");
        let second = keys(Some(vault.clone()));
        let later = second.sign(&claims(PERIOD, PERIOD + 600)).expect("signed");
        let kid = |token: &str| jsonwebtoken::decode_header(token).expect("a header").kid;
        assert_eq!(kid(&long), kid(&brief));
        assert_ne!(kid(&long), kid(&later));
        assert!(second.open_token(&long).is_some());
        let third = keys(Some(vault.clone()));
        assert!(third.open_token(&long).is_some());
        assert!(third.open_token(&later).is_some());
        // Not at the first rotation after their end: the clock may be ahead.
        for periods in [4, 5] {
            let now = periods * PERIOD;
            third.sign(&claims(now, now + 600)).expect("signed");
        }
        for gone in [&long, &later] {
            assert_eq!(third.open_token(gone), None, "its key has been forgotten");
        }
    }

    #[test]
    fn nothing_is_signed_with_a_key_that_could_not_be_saved() {
        let keys = keys(Some(Arc::new(Broken)));
        let error = keys.sign(&claims(0, 600)).expect_err("not saved");
        assert_eq!(error.code, 500);
        assert!(error.message.contains("disk is full"), "{}", error.message);
    }

    #[test]
    fn saved_nonsense_is_refused_by_its_place_and_not_quoted() {
        let vault = Drawer(Mutex::new(Some(b"{\"keys\": [\"secret\"]}".to_vec())));
        let error = Keys::open(Some(Arc::new(vault)), Arc::new(SystemEnvironment)).err();
        let error = error.expect("refused");
        assert!(error.contains("the drawer"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn keys_in_memory_replay_with_the_environment() {
        let token = || {
            let keys = Keys::open(None, Arc::new(Replayed)).expect("opens");
            keys.sign(&claims(0, 600)).expect("signed")
        };
        assert_eq!(token(), token());
    }
}
