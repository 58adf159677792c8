//! Images, documents, videos and recordings: bytes in base64, or an object in S3; the format as a word, not as a type.

use serde::Serialize;

use super::types::NAME;
use crate::{
    canonical::{Media, Source},
    error::EncodeError,
    notes::unsupported,
};

#[derive(Serialize)]
pub(super) struct WireMedia<'a> {
    format: &'static str,
    source: WireSource<'a>,
}

#[derive(Serialize)]
pub(super) struct Document<'a> {
    format: &'static str,
    name: String,
    source: WireSource<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum WireSource<'a> {
    Bytes(&'a str),
    S3Location { uri: &'a str },
    Text(&'a str),
}

/// The API's word for a format, the endings of such files, and the last part of their media types.
type Format = (&'static str, &'static [&'static str]);

const IMAGES: &[Format] = &[("png", &["png"]), ("jpeg", &["jpeg", "jpg"]), ("gif", &["gif"]), ("webp", &["webp"])];

const DOCUMENTS: &[Format] = &[
    ("pdf", &["pdf"]),
    ("csv", &["csv"]),
    ("doc", &["doc", "msword"]),
    ("docx", &["docx", "vnd.openxmlformats-officedocument.wordprocessingml.document"]),
    ("xls", &["xls", "vnd.ms-excel"]),
    ("xlsx", &["xlsx", "vnd.openxmlformats-officedocument.spreadsheetml.sheet"]),
    ("html", &["html", "htm"]),
    ("txt", &["txt", "plain"]),
    ("md", &["md", "markdown", "x-markdown"]),
];

const VIDEOS: &[Format] = &[
    ("mkv", &["mkv", "x-matroska"]),
    ("mov", &["mov", "quicktime"]),
    ("mp4", &["mp4"]),
    ("webm", &["webm"]),
    ("flv", &["flv", "x-flv"]),
    ("mpeg", &["mpeg"]),
    ("mpg", &["mpg"]),
    ("wmv", &["wmv", "x-ms-wmv"]),
    ("three_gp", &["3gp", "3gpp"]),
];

const AUDIO: &[Format] = &[
    ("mp3", &["mp3", "mpeg"]),
    ("opus", &["opus"]),
    ("wav", &["wav", "x-wav", "wave"]),
    ("aac", &["aac"]),
    ("flac", &["flac", "x-flac"]),
    ("mp4", &["mp4"]),
    ("ogg", &["ogg"]),
    ("m4a", &["m4a", "x-m4a"]),
    ("pcm", &["pcm", "l16"]),
    ("webm", &["webm"]),
];

pub(super) fn image(media: &Media) -> Result<WireMedia<'_>, EncodeError> {
    Ok(WireMedia { format: format(media, IMAGES, "an image")?, source: source(media, "an image")? })
}

pub(super) fn audio(media: &Media) -> Result<WireMedia<'_>, EncodeError> {
    Ok(WireMedia { format: format(media, AUDIO, "a recording")?, source: source(media, "a recording")? })
}

/// `None`: it is no video, so it is a document.
pub(super) fn video(media: &Media) -> Result<Option<WireMedia<'_>>, EncodeError> {
    let is_video = match &media.source {
        Source::Base64 { media_type, .. } => media_type.starts_with("video/"),
        Source::Url(url) => ending(url).is_some_and(|word| find(word, VIDEOS).is_some()),
        Source::Text(_) | Source::Uploaded(_) => false,
    };
    if !is_video {
        return Ok(None);
    }
    Ok(Some(WireMedia { format: format(media, VIDEOS, "a video")?, source: source(media, "a video")? }))
}

/// Makes documents, each with a name of its own: the API refuses two of the same name.
#[derive(Default)]
pub(super) struct Documents {
    names: Vec<String>,
}

impl Documents {
    pub(super) fn document<'a>(&mut self, media: &'a Media) -> Result<Document<'a>, EncodeError> {
        let format = format(media, DOCUMENTS, "a document")?;
        let source = source(media, "a document")?;
        let plain = plain_name(media.name.as_deref().unwrap_or_default());
        let name = (1..)
            .map(|n| if n == 1 { plain.clone() } else { format!("{plain} ({n})") })
            .find(|name| !self.names.contains(name))
            .expect("the numbers do not end");
        self.names.push(name.clone());
        Ok(Document { format, name, source })
    }
}

/// The API takes letters, digits, single spaces, hyphens, parentheses and square brackets, 200 characters at most.
fn plain_name(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let mut plain = String::new();
    for c in stem.chars() {
        let c = match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']') => c,
            c if c.is_whitespace() => ' ',
            _ => '-',
        };
        if c != ' ' || !plain.ends_with(' ') {
            plain.push(c);
        }
    }
    // Room for the number that a second one of this name bears.
    plain.truncate(180);
    let plain = plain.trim();
    if plain.is_empty() { "document".to_owned() } else { plain.to_owned() }
}

fn source<'a>(media: &'a Media, what: &str) -> Result<WireSource<'a>, EncodeError> {
    match &media.source {
        Source::Base64 { data, .. } => Ok(WireSource::Bytes(data)),
        Source::Url(uri) if uri.starts_with("s3://") => Ok(WireSource::S3Location { uri }),
        Source::Url(_) => Err(unsupported(NAME, format!("{what} by a URL that is not of S3"))),
        Source::Text(text) => Ok(WireSource::Text(text)),
        Source::Uploaded(_) => Err(unsupported(NAME, format!("{what} uploaded to another provider"))),
    }
}

fn format(media: &Media, formats: &[Format], what: &str) -> Result<&'static str, EncodeError> {
    let by_name = || media.name.as_deref().and_then(ending).and_then(|word| find(word, formats));
    let found = match &media.source {
        Source::Base64 { media_type, .. } => {
            let subtype = media_type.split(';').next().and_then(|kind| kind.split_once('/')).map(|(_, sub)| sub.trim());
            subtype.and_then(|word| find(word, formats)).or_else(by_name)
        }
        Source::Url(url) => ending(url).and_then(|word| find(word, formats)).or_else(by_name),
        Source::Text(_) => find("txt", formats),
        Source::Uploaded(_) => return source(media, what).map(|_| ""),
    };
    found.ok_or_else(|| match &media.source {
        Source::Base64 { media_type, .. } => unsupported(NAME, format!("{what} of type {media_type}")),
        _ => unsupported(NAME, format!("{what} whose format is not told by its name")),
    })
}

fn find(word: &str, formats: &[Format]) -> Option<&'static str> {
    formats
        .iter()
        .find(|(_, words)| words.iter().any(|known| known.eq_ignore_ascii_case(word)))
        .map(|(format, _)| *format)
}

fn ending(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, ending)| ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_each_its_own() {
        let mut documents = Documents::default();
        let mut name = |given: Option<&str>| {
            let media = Media { name: given.map(str::to_owned), ..Media::from(Source::Text("x".into())) };
            documents.document(&media).unwrap().name
        };
        assert_eq!(name(Some("Q3 report_final  (v2).pdf")), "Q3 report-final (v2)");
        assert_eq!(name(Some("Q3 report_final (v2).docx")), "Q3 report-final (v2) (2)");
        assert_eq!(name(None), "document");
        assert_eq!(name(Some("..")), "-");
        assert_eq!(name(Some("")), "document (2)");
        assert_eq!(name(Some(&"é".repeat(300))).len(), 180);
    }
}
