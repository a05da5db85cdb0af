//! The member's namespaces: made before what goes into them, repaired, and removed when nothing is
//! left of either side.

use tmc_apimachinery::status::{ApiError, Reason};

use super::*;
use crate::namespaces::{self, Check, DEFAULT_ACCOUNT};

impl Shared {
    /// Namespaces of the member have this Pod Security level from now on.
    pub(super) fn secure(&self, level: &str) {
        {
            let mut current = self.pod_security.write();
            if *current == level {
                return;
            }
            level.clone_into(&mut current);
        }
        for (key, _) in self.namespaces.all() {
            self.queue.add(Work::Namespace(key.name));
        }
    }

    /// Makes or repairs the member's namespace; false while one of that name is going away.
    pub(super) async fn ensure_namespace(&self, key: &ClusterKey) -> Result<bool, Error> {
        let options = &self.options;
        let desired = namespaces::desired(
            &options.target,
            &key.cluster,
            &key.namespace,
            &self.pod_security.read().clone(),
        );
        let name = meta(&desired).name();
        let known = self.namespaces.get(&member_key("", name));
        let mut found = known.map(|namespace| namespace.read());
        if found.is_none() {
            // The informer sees only what carries our label; a stranger's has to be asked for.
            found = match self.member(&namespaces_gvr()).get("", name).await {
                Ok(namespace) => Some(namespace),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
        }
        let there = match (namespaces::check(&desired, found.as_ref()), &found) {
            (Check::Wait, _) => return Ok(false),
            (Check::Foreign(why), _) => return Err(ApiError::new(Reason::Forbidden, why).into()),
            (Check::Fine, Some(found)) => found.clone(),
            (Check::Fine | Check::Apply, _) => {
                let client = self.member(&namespaces_gvr());
                self.noted(client.apply("", name, MANAGER, &desired).await)?
            }
        };
        self.disarm_default_account(&there, found.is_none()).await?;
        Ok(true)
    }

    /// Sees to it that pods of a namespace get no token that they do not ask for. Once in the life of
    /// this process and namespace: what the member's owner changes afterwards stays until the agent
    /// starts anew. A member that refuses it keeps its account as it is; objects are not held up.
    async fn disarm_default_account(&self, namespace: &Value, is_new: bool) -> Result<(), Error> {
        let (name, uid) = (meta(namespace).name(), meta(namespace).uid());
        if self.disarmed.lock().get(name).is_some_and(|of| of == uid) {
            return Ok(());
        }
        match self.set_default_account(name, is_new).await {
            Err(error) if status::refusal(&error).is_some() => {
                tracing::warn!(namespace = name, %error, "pods may get tokens of account default");
            }
            done => done?,
        }
        self.disarmed.lock().insert(name.to_owned(), uid.to_owned());
        Ok(())
    }

    async fn set_default_account(&self, name: &str, is_new: bool) -> Result<(), Error> {
        let client = self.member(&GroupVersionResource::new("", "v1", "serviceaccounts"));
        // A restarted agent writes nothing that is there.
        let done = !is_new
            && match client.get(name, DEFAULT_ACCOUNT).await {
                Ok(account) => account["automountServiceAccountToken"] == false,
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(error),
            };
        if !done {
            let account = namespaces::default_account(name);
            let applied = client.apply(name, DEFAULT_ACCOUNT, MANAGER, &account);
            self.noted(applied.await)?;
        }
        Ok(())
    }

    /// A namespace of the member whose namespace on the hub is gone goes too, after a while and
    /// only if nothing that we synced is left in it.
    pub(super) async fn namespace(&self, name: &str) -> Outcome {
        if !self.upstream_namespaces.has_synced() || !self.namespaces.has_synced() {
            return Ok(Flow::RequeueAfter(unsynced_retry(self.since.elapsed())));
        }
        let Some(namespace) = self.namespaces.get(&member_key("", name)) else {
            self.disarmed.lock().remove(name);
            self.forget_place(name);
            return Ok(Flow::Done);
        };
        let namespace = namespace.read();
        let Some((cluster, upstream)) = self.options.target.upstream_namespace(&namespace) else {
            return Ok(Flow::Done);
        };
        let key = ClusterKey {
            cluster,
            namespace: String::new(),
            name: upstream,
        };
        let going = !meta(&namespace).deletion_timestamp().is_empty();
        if going || self.upstream_namespaces.get(&key).is_some() {
            self.unused_since.lock().remove(name);
            if !going {
                // What was changed in the member, or is configured differently now, is repaired.
                let object = ClusterKey::new(&key.cluster, &key.name, "");
                self.ensure_namespace(&object).await?;
            }
            return Ok(Flow::Done);
        }
        if self.holds_copies(name) {
            self.unused_since.lock().remove(name);
            return Ok(Flow::RequeueAfter(self.options.namespace_delay));
        }
        let since = *self
            .unused_since
            .lock()
            .entry(name.to_owned())
            .or_insert_with(Instant::now);
        let left = self.options.namespace_delay.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Ok(Flow::RequeueAfter(left));
        }
        self.unused_since.lock().remove(name);
        let only = DeleteParams {
            uid: Some(meta(&namespace).uid().to_owned()),
            ..DeleteParams::default()
        };
        let deleted = self.member(&namespaces_gvr()).delete("", name, &only).await;
        settled(self.noted(deleted))
    }

    fn holds_copies(&self, namespace: &str) -> bool {
        let resources = self.resources.read();
        let mut copies = resources.values().map(|synced| &synced.downstream);
        copies.any(|copies| !copies.keys_by_index(BY_NAMESPACE, namespace).is_empty())
    }

    /// Their news may have come before it was known where they belong.
    pub(super) fn look_at_copies(&self, namespace: &str) {
        for (gvr, synced) in self.resources.read().iter() {
            for copy in synced.downstream.keys_by_index(BY_NAMESPACE, namespace) {
                if let Some(key) = self.upstream_key(gvr, &copy) {
                    self.queue.add(Work::Object(gvr.clone(), key));
                }
            }
        }
    }

    /// The member's namespace is gone: so is its place, unless the hub still has something for it.
    fn forget_place(&self, name: &str) {
        let Some((cluster, namespace)) = self.places.home(name) else {
            return;
        };
        let owner = ClusterKey::new(&cluster, "", &namespace);
        let home = home_value(&ClusterKey::new(&cluster, &namespace, ""));
        let resources = self.resources.read();
        let mut objects = resources.values().map(|synced| &synced.upstream);
        let used = self.upstream_namespaces.get(&owner).is_some()
            || objects.any(|all| !all.keys_by_index(BY_NAMESPACE, &home).is_empty());
        if !used {
            self.places.forget(name);
        }
    }
}
