//! Whether an incident is what docs/incident.schema.json says.

use serde_json::Value;

/// What is wrong with it, a line each. Stricter than for readers: keys that are not described are wrong, too.
pub fn faults(incident: &Value) -> Vec<String> {
    let mut schema: Value = serde_json::from_str(include_str!("../../docs/incident.schema.json")).expect("JSON");
    close(&mut schema);
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    validator.iter_errors(incident).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Forbids keys that are not described.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(close),
        Value::Object(fields) => {
            let is_object = fields.get("type").is_some_and(|kind| kind == "object");
            // An entry is closed by what its kind says.
            if is_object && fields.contains_key("properties") && !fields.contains_key("if") {
                fields.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            fields.values_mut().for_each(close);
        }
        _ => {}
    }
}
