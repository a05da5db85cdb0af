//! ConfigMaps and Secrets. No message quotes what a Secret holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tmc_apimachinery::meta::meta;

use super::checks::{map, present, same, text};
use crate::report::{Field, Report};

/// Most bytes of data in one object.
const MAX_SIZE: usize = 1024 * 1024;
const MAX_KEY: usize = 253;
const REDACTED: &str = "<secret contents redacted>";
const ACCOUNT: &str = "kubernetes.io/service-account.name";

pub(super) fn config_map(object: &Value, old: Option<&Value>, report: &mut Report) {
    if let Some(old) = old {
        frozen(object, old, &["data", "binaryData"], report);
    }
    let mut size = 0;
    let at = Field::new("data");
    for (name, value) in map(object, "data") {
        key(name, &at, report);
        if object["binaryData"].get(name).is_some() {
            let why = "duplicate of key present in binaryData";
            report.invalid(&at.key(name), name.as_str(), why);
        }
        size += value.as_str().map_or(0, str::len);
    }
    let at = Field::new("binaryData");
    for (name, value) in map(object, "binaryData") {
        key(name, &at, report);
        match STANDARD.decode(value.as_str().unwrap_or_default()) {
            Ok(bytes) => size += bytes.len(),
            Err(error) => {
                report.invalid(
                    &at.key(name),
                    value.clone(),
                    format!("must be base64: {error}"),
                );
            }
        }
    }
    if size > MAX_SIZE {
        report.too_long(&Field::new("[]"), MAX_SIZE);
    }
}

pub(super) fn secret(object: &Value, old: Option<&Value>, report: &mut Report) {
    if let Some(old) = old {
        frozen(object, old, &["data"], report);
    }
    let mut size = 0;
    let at = Field::new("data");
    for (name, value) in map(object, "data") {
        key(name, &at, report);
        match STANDARD.decode(value.as_str().unwrap_or_default()) {
            Ok(bytes) => size += bytes.len(),
            Err(error) => {
                report.invalid(&at.key(name), REDACTED, format!("must be base64: {error}"));
            }
        }
    }
    if size > MAX_SIZE {
        report.too_long(&at, MAX_SIZE);
    }
    typed(object, &at, report);
}

/// What the type of a Secret promises.
fn typed(secret: &Value, data: &Field, report: &mut Report) {
    let value = |key: &str| secret["data"].get(key).and_then(Value::as_str);
    let require = |keys: &[&str], report: &mut Report| {
        for key in keys.iter().filter(|key| value(key).is_none()) {
            report.required(&data.key(key), "");
        }
    };
    let lacks = |key: &str| value(key).is_none();
    match text(secret, "type") {
        "kubernetes.io/service-account-token"
            if meta(secret).annotation(ACCOUNT).is_none_or(str::is_empty) =>
        {
            let at = Field::new("metadata").child("annotations").key(ACCOUNT);
            report.required(&at, "");
        }
        "kubernetes.io/dockercfg" => json(value(".dockercfg"), ".dockercfg", data, report),
        "kubernetes.io/dockerconfigjson" => {
            json(
                value(".dockerconfigjson"),
                ".dockerconfigjson",
                data,
                report,
            );
        }
        "kubernetes.io/basic-auth" if lacks("username") && lacks("password") => {
            require(&["username", "password"], report);
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(str::is_empty) => {
            report.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"], report),
        _ => {}
    }
}

fn json(encoded: Option<&str>, key: &str, data: &Field, report: &mut Report) {
    let Some(encoded) = encoded else {
        report.required(&data.key(key), "");
        return;
    };
    let Ok(bytes) = STANDARD.decode(encoded) else {
        return;
    };
    if !serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value.is_object()) {
        report.invalid(&data.key(key), REDACTED, "must be a JSON object");
    }
}

/// An object marked immutable keeps its mark and its data.
fn frozen(object: &Value, old: &Value, data: &[&str], report: &mut Report) {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if object.get("immutable") != Some(&Value::Bool(true)) {
        report.forbidden(&Field::new("immutable"), why);
    }
    for key in data {
        let [new, old] = [object, old].map(|object| present(object, key).unwrap_or(&Value::Null));
        if !same(new, old) {
            report.forbidden(&Field::new(key), why);
        }
    }
}

fn key(name: &str, field: &Field, report: &mut Report) {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.len() > MAX_KEY {
        report.invalid(
            &field.key(name),
            name,
            format!("must be no more than {MAX_KEY} characters"),
        );
    }
    if name.is_empty() || !name.bytes().all(known) {
        let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        report.invalid(&field.key(name), name, why);
    }
    match name {
        "." | ".." => report.invalid(&field.key(name), name, format!("must not be '{name}'")),
        _ if name.starts_with("..") => {
            report.invalid(&field.key(name), name, "must not start with '..'");
        }
        _ => {}
    }
}
