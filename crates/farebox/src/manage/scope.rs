//! What a budget or limit counts by, on the command line.

use farebox_policy::Dimension;
use farebox_proto::v1;

/// `DIMENSION` or `DIMENSION=*`: each by itself; `DIMENSION=A,B`: these together.
pub(crate) fn term(given: &str) -> Result<v1::ScopeTerm, String> {
    let (name, values) = given.split_once('=').unwrap_or((given, "*"));
    let dimension = Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == name).ok_or_else(|| {
        let known = Dimension::ALL.map(Dimension::as_str).join(", ");
        format!("`{name}` is nothing to count by; there are: {known}")
    })?;
    let values = match values {
        "" => return Err(format!("`{given}` names nothing: write {name}=* for each by itself")),
        "*" => Vec::new(),
        values => values.split(',').map(str::to_owned).collect(),
    };
    let dimension =
        v1::scope_term::Dimension::from_str_name(&format!("DIMENSION_{}", dimension.as_str().to_uppercase()))
            .expect("the contract has every dimension");
    Ok(v1::ScopeTerm { dimension: dimension.into(), values })
}

/// The same, the other way round.
pub(crate) fn shown(terms: &[v1::ScopeTerm]) -> String {
    if terms.is_empty() {
        return "everything".to_owned();
    }
    let one = |term: &v1::ScopeTerm| {
        let dimension = term.dimension().as_str_name().trim_start_matches("DIMENSION_").to_lowercase();
        if term.values.is_empty() { dimension } else { format!("{dimension}={}", term.values.join(",")) }
    };
    terms.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_read_and_show() {
        for (given, back) in [("task", "task"), ("actor=*", "actor"), ("end_user", "end_user"), ("key=a,b", "key=a,b")]
        {
            assert_eq!(shown(&[term(given).unwrap()]), back);
        }
        assert_eq!(shown(&[]), "everything");
        assert!(term("colour").unwrap_err().contains("organisation, project"));
        assert!(term("key=").unwrap_err().contains("key=*"));
    }
}
