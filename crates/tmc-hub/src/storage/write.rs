//! Create, update and delete: strategy → defaulting → admission → validation → one mutation.

use std::sync::Arc;

use serde_json::{Value, json};
use tmc_apimachinery::admission::{AdmissionRequest, Operation};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::{DeleteOptions, FieldValidation, WriteOptions};
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_server::resource::{Deleted, Object, Written};
use tmc_store::{CommitError, Expect, Mutation};

use super::{Core, Entry, Event, Extracted, Layout, Place, strategy};
use crate::environment::{name_suffix, timestamp};
use crate::keys;

/// Tries of an unconditional update before it is answered 409: each lost race means that another
/// write got in.
const UPDATE_TRIES: usize = 16;
/// Tries of a generated name.
const GENERATE_TRIES: usize = 8;

impl Core {
    pub(crate) async fn create_object(
        self: &Arc<Self>,
        place: &Place,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        let warnings = self.decode(place, &mut object, options)?;
        let generated =
            meta(&object).name().is_empty() && !meta(&object).generate_name().is_empty();
        for attempt in 1.. {
            let tried = self.create_once(place, object.clone(), options).await;
            match tried {
                Err(error) if generated && error.code == 409 && attempt < GENERATE_TRIES => {}
                Err(error) => return Err(error),
                Ok(object) => {
                    return Ok(Written {
                        object,
                        created: true,
                        warnings,
                    });
                }
            }
        }
        Err(ApiError::internal("no free generated name"))
    }

    async fn create_once(
        self: &Arc<Self>,
        place: &Place,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Object> {
        self.fill_new_metadata(place, &mut object)?;
        let name = meta(&object).name().to_owned();
        let definition = &place.definition;
        strategy::before_create(definition, &mut object);
        let request =
            self.admission_request(place, Operation::Create, &name, options.dry_run, None);
        self.admission.mutate(&request, &mut object).await?;
        self.default(place, &mut object);
        self.stamp_cluster(place, &mut object);
        strategy::after_default(self, place, &mut object, None);
        self.validate(place, &object, None)?;
        self.check_namespace(place)?;
        crate::rbac::check_escalation(self, place, &object)?;
        crate::workspaces::check(self, place, &object, None)?;
        self.admission.validate(&request, Some(&object)).await?;
        // What the hub itself adds to a new Workspace is reserved, so it comes after the guards.
        crate::workspaces::complete(self, place, &mut object);
        check_size(place, &name, &object)?;
        if options.dry_run {
            if self.store.get(&place.key(&name)).is_some() {
                return Err(ApiError::already_exists(&place.resource(), &name));
            }
            return Ok(Object::from_value(&object));
        }
        let event = self
            .commit(place.key(&name), Expect::Absent, object, false)
            .await
            .map_err(|error| match error {
                CommitError::Conflict { .. } => ApiError::already_exists(&place.resource(), &name),
                other => commit_failed(&other),
            })?;
        Ok(self.present(&event.entry, definition))
    }

    pub(crate) async fn update_object(
        self: &Arc<Self>,
        place: &Place,
        name: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        let warnings = self.decode(place, &mut object, options)?;
        let written = |object| Written {
            object,
            created: false,
            warnings,
        };
        if !meta(&object).resource_version().is_empty() {
            let updated = self.update_once(place, name, object, options).await;
            return updated.map(written);
        }
        for _ in 0..UPDATE_TRIES {
            match self.update_once(place, name, object.clone(), options).await {
                Err(error) if error.code == 409 && is_race(&error) => {}
                updated => return updated.map(written),
            }
        }
        Err(ApiError::stale(&place.resource(), name))
    }

    async fn update_once(
        self: &Arc<Self>,
        place: &Place,
        name: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Object> {
        let resource = place.resource();
        let key = place.key(name);
        let entry = self
            .store
            .get(&key)
            .ok_or_else(|| ApiError::not_found(&resource, name))?;
        let old: Value = serde_json::from_slice(&entry.value).map_err(ApiError::internal)?;
        check_preconditions(
            place,
            name,
            &old,
            meta(&object).uid(),
            meta(&object).resource_version(),
        )?;
        let mut new = strategy::merge_update(place, &old, object)?;
        let request =
            self.admission_request(place, Operation::Update, name, options.dry_run, Some(&old));
        self.admission.mutate(&request, &mut new).await?;
        self.default(place, &mut new);
        self.stamp_cluster(place, &mut new);
        strategy::after_default(self, place, &mut new, Some(&old));
        if new == old {
            return Ok(self.present(&entry, &place.definition));
        }
        strategy::bump_generation(&place.definition, &old, &mut new);
        self.validate(place, &new, Some(&old))?;
        crate::rbac::check_escalation(self, place, &new)?;
        crate::workspaces::check(self, place, &new, Some(&old))?;
        self.admission.validate(&request, Some(&new)).await?;
        check_size(place, name, &new)?;
        if options.dry_run {
            return Ok(Object::from_value(&new));
        }
        let gone = strategy::deletion_complete(&place.definition, &new);
        let expect = Expect::Revision(entry.revision);
        let event = self
            .commit(key, expect, new, gone)
            .await
            .map_err(|error| match error {
                CommitError::Conflict { current: None } => ApiError::not_found(&resource, name),
                CommitError::Conflict { .. } => ApiError::stale(&resource, name),
                other => commit_failed(&other),
            })?;
        Ok(self.present(&event.entry, &place.definition))
    }

    pub(crate) async fn delete_object(
        self: &Arc<Self>,
        place: &Place,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted> {
        let resource = place.resource();
        let key = place.key(name);
        for _ in 0..UPDATE_TRIES {
            let entry = self
                .store
                .get(&key)
                .ok_or_else(|| ApiError::not_found(&resource, name))?;
            let old: Value = serde_json::from_slice(&entry.value).map_err(ApiError::internal)?;
            let uid = options.uid.as_deref().unwrap_or("");
            let version = options.resource_version.as_deref().unwrap_or("");
            check_preconditions(place, name, &old, uid, version)?;
            strategy::check_deletable(place, name)?;
            let request =
                self.admission_request(place, Operation::Delete, name, options.dry_run, Some(&old));
            self.admission.validate(&request, None).await?;
            let mut new = old.clone();
            let marked = !meta(&old).deletion_timestamp().is_empty();
            let now = timestamp(self.environment.now());
            let moved = strategy::set_propagation(&place.definition, &mut new, options.propagation);
            strategy::mark_deleted(&place.definition, &mut new, &now);
            let gone = strategy::deletion_complete(&place.definition, &new);
            if options.dry_run || (marked && !gone && !moved) {
                let object = Object::from_value(&new);
                return Ok(if gone {
                    Deleted::Gone(object)
                } else {
                    Deleted::Pending(object)
                });
            }
            let last = if gone { old } else { new };
            match self
                .commit(key.clone(), Expect::Revision(entry.revision), last, gone)
                .await
            {
                Ok(event) => {
                    let object = self.present(&event.entry, &place.definition);
                    return Ok(if gone {
                        Deleted::Gone(object)
                    } else {
                        Deleted::Pending(object)
                    });
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(other) => return Err(commit_failed(&other)),
            }
        }
        Err(ApiError::stale(&resource, name))
    }

    /// Hands a write to the writer; the revision goes into the object before it is encoded. Goes on
    /// in a task of its own: what depends on a write must learn of it even if the caller has gone.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        key: tmc_store::Key,
        expect: Expect,
        mut object: Value,
        delete: bool,
    ) -> std::result::Result<Arc<Event>, CommitError<Extracted>> {
        let encode = Box::new(move |revision: u64| {
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            let labels = meta(&object).labels();
            let deleting = !meta(&object).deletion_timestamp().is_empty();
            let owned = !meta(&object).owner_references().is_empty();
            let extracted = Extracted {
                labels,
                deleting,
                owned,
            };
            (Object::from_value(&object).bytes, extracted)
        });
        let core = self.clone();
        let work = tokio::spawn(async move {
            let mutation = Mutation {
                key,
                expect,
                encode,
                delete,
            };
            let event = core.store.commit(mutation).await?;
            core.committed(&event);
            Ok(event)
        });
        // It fails only while the runtime shuts down.
        work.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Everything that depends on a write, after it is durable.
    fn committed(&self, event: &Event) {
        let Some((group, rest)) = event.entry.key.split_once('/') else {
            return;
        };
        let Some((resource, _)) = rest.split_once('/') else {
            return;
        };
        let Some(at) = keys::locate(&event.entry.key) else {
            return;
        };
        match (group, resource) {
            ("rbac.authorization.k8s.io", _) => self.rbac.invalidate(at.cluster),
            ("apiextensions.k8s.io", "customresourcedefinitions") => {
                self.catalog.invalidate(at.cluster);
            }
            _ => {}
        }
        crate::lifecycle::observe(self, group, resource, &at, event);
    }

    /// Prunes what the schema does not know, as `fieldValidation` says.
    fn decode(
        &self,
        place: &Place,
        object: &mut Value,
        options: &WriteOptions,
    ) -> Result<Vec<String>> {
        // Deeper than readers can parse, it would make whole lists unreadable for others.
        let depth = tmc_apimachinery::meta::depth(object);
        if depth > tmc_apimachinery::meta::MAX_DEPTH {
            return Err(ApiError::bad_request(format!(
                "the object is nested {depth} levels deep; at most {} are possible",
                tmc_apimachinery::meta::MAX_DEPTH
            )));
        }
        let Some(schema) = &place.definition.schema else {
            return Ok(Vec::new());
        };
        let unknown = schema.prune(object);
        let texts: Vec<String> = unknown
            .iter()
            .map(|path| format!("unknown field \"{path}\""))
            .collect();
        match options.field_validation {
            _ if texts.is_empty() => Ok(texts),
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Warn => Ok(texts),
            FieldValidation::Strict => {
                let list = texts.join(", ");
                Err(ApiError::bad_request(format!(
                    "strict decoding error: {list}"
                )))
            }
        }
    }

    fn fill_new_metadata(&self, place: &Place, object: &mut Value) -> Result<()> {
        let definition = &place.definition;
        let given = meta(object);
        if !given.resource_version().is_empty() {
            return Err(ApiError::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let uid = self.environment.uid();
        let mut name = given.name().to_owned();
        if name.is_empty() && !given.generate_name().is_empty() {
            name = format!("{}{}", given.generate_name(), name_suffix(&uid, 5));
        }
        if name.is_empty() {
            let cause = Cause::required("metadata.name", "name or generateName is required");
            let gvk = &definition.gvk;
            return Err(ApiError::invalid(&gvk.group, &gvk.kind, "", vec![cause]));
        }
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let Some(metadata) = object["metadata"].as_object_mut() else {
            return Ok(());
        };
        for server_owned in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "managedFields",
            "generation",
        ] {
            metadata.remove(server_owned);
        }
        metadata.insert("name".into(), name.into());
        metadata.insert("uid".into(), uid.into());
        metadata.insert(
            "creationTimestamp".into(),
            timestamp(self.environment.now()).into(),
        );
        if definition.namespaced() {
            metadata.insert("namespace".into(), place.namespace.as_str().into());
        } else {
            metadata.remove("namespace");
        }
        if definition.generation {
            metadata.insert("generation".into(), 1.into());
        }
        object["apiVersion"] = storage_api_version(definition).into();
        object["kind"] = definition.gvk.kind.as_str().into();
        Ok(())
    }

    fn default(&self, place: &Place, object: &mut Value) {
        if !place.definition.custom {
            tmc_builtins::default(&place.definition.gvk, object);
        }
        if let Some(schema) = &place.definition.schema {
            schema.default(object);
        }
    }

    /// `kcp.io/cluster` always comes from the URL, whatever the body says.
    fn stamp_cluster(&self, place: &Place, object: &mut Value) {
        if self.layout == Layout::Workspaces {
            tmc_apimachinery::meta::set_annotation(
                object,
                "kcp.io/cluster",
                place.cluster.as_str(),
            );
        }
    }

    fn validate(&self, place: &Place, object: &Value, old: Option<&Value>) -> Result<()> {
        let definition = &place.definition;
        let name = meta(object).name();
        let mut causes = Vec::new();
        if old.is_none() {
            causes.extend(tmc_apimachinery::meta::validate_name(
                "metadata.name",
                name,
                definition.name_rule,
            ));
        }
        causes.extend(tmc_apimachinery::meta::validate_metadata(object));
        if let Some(schema) = &definition.schema {
            causes.extend(match old {
                Some(old) => schema.validate_update(object, old),
                None => schema.validate(object),
            });
        }
        if let Some(old) = old {
            causes.extend(strategy::immutable_causes(definition, old, object));
        }
        if causes.is_empty() && !definition.custom {
            causes.extend(tmc_builtins::validate(&definition.gvk, object, old));
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(
            &definition.gvk.group,
            &definition.gvk.kind,
            name,
            causes,
        ))
    }

    /// A namespaced object needs its namespace, and one that is not going away.
    fn check_namespace(&self, place: &Place) -> Result<()> {
        if !place.definition.namespaced() {
            return Ok(());
        }
        let namespaces = tmc_apimachinery::GroupResource::new("", "namespaces");
        let Some(namespace) = self.read(&namespaces, &place.cluster, "", &place.namespace) else {
            return Err(ApiError::not_found(&namespaces, &place.namespace));
        };
        if meta(&namespace).deletion_timestamp().is_empty() {
            return Ok(());
        }
        let mut error = ApiError::forbidden(
            &place.resource(),
            "",
            &format!(
                "unable to create new content in namespace {} because it is being terminated",
                place.namespace
            ),
        );
        error.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {} is being terminated", place.namespace),
            field: "metadata.namespace".into(),
        });
        Err(error)
    }

    fn admission_request<'a>(
        &self,
        place: &'a Place,
        operation: Operation,
        name: &'a str,
        dry_run: bool,
        old: Option<&'a Value>,
    ) -> AdmissionRequest<'a> {
        AdmissionRequest {
            operation,
            cluster: &place.cluster,
            gvk: &place.definition.gvk,
            gvr: &place.gvr,
            subresource: &place.subresource,
            namespace: &place.namespace,
            name,
            user: &place.user,
            dry_run,
            old,
        }
    }

    /// The current entry, for parts of the hub that write on their own.
    pub(crate) fn current(&self, place: &Place, name: &str) -> Option<(Arc<Entry>, Value)> {
        let entry = self.store.get(&place.key(name))?;
        let value = serde_json::from_slice(&entry.value).ok()?;
        Some((entry, value))
    }
}

/// Largest encoded object, as in etcd. Whoever lists or watches reads every object there is, so one
/// that is too large for a reader would keep it from all others.
const MAX_OBJECT: usize = 3 * 1024 * 1024 / 2;

fn check_size(place: &Place, name: &str, object: &Value) -> Result<()> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, object).map_err(ApiError::internal)?;
    if count.0 <= MAX_OBJECT {
        return Ok(());
    }
    let message = format!(
        "{} \"{name}\" would have {} bytes; at most {MAX_OBJECT} can be stored",
        place.resource(),
        count.0
    );
    Err(ApiError::too_large(message).about(&place.resource(), name))
}

fn storage_api_version(definition: &tmc_apimachinery::definition::ResourceDefinition) -> String {
    tmc_apimachinery::GroupVersion::new(&*definition.gvk.group, &*definition.storage_version)
        .to_string()
}

/// Whether a 409 came from the writer's comparison rather than from a precondition of the caller.
fn is_race(error: &ApiError) -> bool {
    error
        .message
        .ends_with("please apply your changes to the latest version and try again")
}

fn check_preconditions(
    place: &Place,
    name: &str,
    old: &Value,
    uid: &str,
    resource_version: &str,
) -> Result<()> {
    let resource = place.resource();
    let stored = meta(old);
    if !uid.is_empty() && uid != stored.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            stored.uid()
        );
        return Err(ApiError::conflict(&resource, name, &why));
    }
    if !resource_version.is_empty() && resource_version != stored.resource_version() {
        return Err(ApiError::stale(&resource, name));
    }
    Ok(())
}

fn commit_failed(error: &CommitError<Extracted>) -> ApiError {
    match error {
        CommitError::Closed => ApiError::unavailable("the hub is shutting down", 1),
        other => ApiError::internal(other),
    }
}
