//! Which web pages may call from a browser: <https://fetch.spec.whatwg.org/#http-cors-protocol>.

use http::{HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use crate::options::CorsOptions;

/// Any page.
pub(crate) const ANY: &str = "*";

/// A page names its key in a header, so whatever headers it wants to send are fine; cookies there are none.
pub(crate) fn layer(options: &CorsOptions) -> CorsLayer {
    let origins = options.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let origins = match options.origins.iter().any(|origin| origin == ANY) {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins),
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any);
    match options.max_age {
        Some(age) => layer.max_age(age.get()),
        None => layer,
    }
}

/// Why an origin can never be one that a browser sends.
pub(crate) fn fault(origin: &str) -> Option<String> {
    let host = origin.split_once("://").map(|(_, host)| host);
    let fits =
        host.is_some_and(|host| !host.is_empty() && !host.contains('/')) && HeaderValue::from_str(origin).is_ok();
    (!fits).then(|| format!("`{origin}` is no origin: write scheme, host and port alone, as in https://app.example"))
}
