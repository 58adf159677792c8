//! What one config says otherwise than another.

use serde::Serialize;
use serde_json::Value;

use crate::{
    fault::{ConfigError, Origin},
    path::Path,
};

/// The places at which two configs differ, each as deep as it can be said. A list that differs is one place.
pub fn differences<T: Serialize>(one: &T, other: &T) -> Result<Vec<Path>, ConfigError> {
    let json = |config: &T| {
        serde_json::to_value(config)
            .map_err(|error| ConfigError::one(Origin::Default, format!("it cannot be compared: {error}")))
    };
    let mut found = Vec::new();
    compare(&json(one)?, &json(other)?, Path::default(), &mut found);
    Ok(found)
}

fn compare(one: &Value, other: &Value, path: Path, found: &mut Vec<Path>) {
    let (Value::Object(left), Value::Object(right)) = (one, other) else {
        if one != other {
            found.push(path);
        }
        return;
    };
    for (key, value) in left {
        let path = path.clone().key(key.clone());
        match right.get(key) {
            Some(other) => compare(value, other, path, found),
            None => found.push(path),
        }
    }
    let new = right.keys().filter(|key| !left.contains_key(*key));
    found.extend(new.map(|key| path.clone().key(key.clone())));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_said_where_they_are() {
        let one = json!({ "a": { "b": 1, "c": [1, 2] }, "same": { "x": null }, "old": {} });
        let other = json!({ "a": { "b": 2, "c": [1, 3] }, "same": { "x": null }, "new": 0 });
        let found: Vec<String> = differences(&one, &other).unwrap().iter().map(Path::to_string).collect();
        assert_eq!(found, ["a.b", "a.c", "old", "new"]);
        assert_eq!(differences(&one, &one).unwrap(), []);
    }
}
