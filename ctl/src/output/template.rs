//! Go templates, as Docker users write them for `--format`.

use std::collections::HashMap;

use gtmpl_ng::{Context, Func, FuncError, Value};
use serde_json::Value as Json;

use super::Table;
use crate::error::{Error, Result};

/// What a kind of thing has for templates: each field, and its heading in a table.
pub(crate) type Fields = &'static [(&'static str, &'static str)];

/// Fields that are maps of names that users choose: one that is missing is no mistake.
const MAPS: [&str; 7] = ["Attributes", "Labels", "Networks", "Sysctls", "ExposedPorts", "Volumes", "Ports"];
/// Labels of an object whose `Labels` are a text, for `{{.Label "KEY"}}`; not shown.
pub(crate) const LABELS: &str = "\0labels";

/// How things are shown with `--format`.
#[derive(Debug)]
pub(crate) enum Template {
    /// `json`: a line of JSON for each.
    Json,
    /// `table TEMPLATE`: columns with tabs between them, below headings.
    Columns(String),
    /// A template, applied to each.
    Each(String),
}

impl Template {
    /// What `--format` says, but for `table` alone; the template itself is looked at, too.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let template = match text.split_once(char::is_whitespace) {
            _ if text == "json" => return Ok(Self::Json),
            Some(("table", columns)) => Self::Columns(unescaped(columns)),
            _ => Self::Each(unescaped(text)),
        };
        if let Self::Columns(text) | Self::Each(text) = &template {
            compile(text)?;
        }
        Ok(template)
    }

    /// Whether a field may be shown. A template that shows all of them shows it, too.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        match self {
            Self::Json => true,
            Self::Columns(text) | Self::Each(text) => {
                let all = |action: &str| action.contains("{{") && action.trim_end().ends_with('.');
                text.contains(&format!(".{field}")) || text.split("}}").any(all)
            }
        }
    }

    /// The lines for things with these fields, with headings first where it is a table.
    pub(crate) fn lines(&self, fields: Fields, things: impl Iterator<Item = Json>) -> Result<Vec<String>> {
        match self {
            Self::Json => things.map(|thing| json_text(&thing)).collect(),
            Self::Each(text) => {
                let template = compile(text)?;
                things.map(|thing| render(&template, thing)).collect()
            }
            Self::Columns(text) => {
                let template = compile(text)?;
                let headings = fields.iter().map(|&(field, heading)| (field.to_owned(), Json::from(heading))).collect();
                // A template that wants more than text of a heading has none.
                let headings = render(&template, Json::Object(headings)).unwrap_or_default();
                let mut table = Table::new(&headings.split('\t').collect::<Vec<_>>());
                for thing in things {
                    table.row(render(&template, thing)?.split('\t').map(str::to_owned));
                }
                Ok(table.shown_lines().collect())
            }
        }
    }

    /// Prints what it makes of things.
    pub(crate) fn print(&self, fields: Fields, things: impl Iterator<Item = Json>) -> Result<()> {
        let lines = self.lines(fields, things)?;
        if lines.is_empty() { Ok(()) } else { super::line(&lines.join("\n")) }
    }
}

/// Docker takes `\t` and `\n` outside of actions, too.
fn unescaped(text: &str) -> String {
    text.trim().replace("\\t", "\t").replace("\\n", "\n")
}

/// The engine's methods take no arguments: the one that Docker has becomes a function.
fn without_methods(text: &str) -> String {
    let mut parts = text.split("{{");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (action, rest) = part.split_at(part.find("}}").unwrap_or(part.len()));
        all.push_str("{{");
        all.push_str(&action.replace("$.Label ", "label $ ").replace(".Label ", "label . "));
        all.push_str(rest);
    }
    all
}

fn compile(text: &str) -> Result<gtmpl_ng::Template> {
    let mut template = gtmpl_ng::Template::with_name("--format");
    template.add_funcs(&FUNCTIONS);
    template
        .parse(without_methods(text))
        .map_err(|error| Error::new(format!("--format: {}", problem(&error.to_string()))))?;
    Ok(template)
}

fn render(template: &gtmpl_ng::Template, thing: Json) -> Result<String> {
    let known = match &thing {
        Json::Object(fields) => fields.keys().filter(|name| *name != LABELS).cloned().collect::<Vec<_>>().join(", "),
        _ => String::new(),
    };
    template.render(&Context::from(value(thing, false))).map_err(|error| {
        let problem = problem(&error.to_string());
        // The engine shows all of the object instead.
        match problem.split_once("no field `").and_then(|(_, rest)| rest.split_once('`')) {
            Some((field, _)) => Error::new(format!("--format: there is no field .{field}; at the top are {known}")),
            None => Error::new(format!("--format: {problem}")),
        }
    })
}

/// What the engine says, without the place before it: "template: NAME:LINE:COLUMN:…:".
fn problem(text: &str) -> String {
    let rest = text.strip_prefix("template: --format:").unwrap_or(text);
    rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ').to_owned()
}

/// A value of the engine. Objects have the fields that they have; maps may lack any.
fn value(json: Json, map: bool) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(truth),
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::Array(items.into_iter().map(|item| value(item, false)).collect()),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (.., number) => Value::from(number.unwrap_or_default()),
        },
        Json::Object(fields) => {
            let field = |(name, json): (String, Json)| {
                let is_map = name == LABELS || MAPS.contains(&name.as_str());
                (name, value(json, is_map))
            };
            let fields: HashMap<String, Value> = fields.into_iter().map(field).collect();
            if map { Value::Map(fields) } else { Value::Object(fields) }
        }
    }
}

/// The way back, for `json`.
fn json(value: &Value) -> Json {
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::String(text) => Json::String(text.clone()),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => number.into(),
            (_, Some(number), _) => number.into(),
            (.., number) => number.into(),
        },
        Value::Object(fields) | Value::Map(fields) => {
            let shown = fields.iter().filter(|(name, _)| *name != LABELS);
            shown.map(|(name, value)| (name.clone(), json(value))).collect()
        }
    }
}

/// One line of JSON, without what is not shown.
fn json_text(thing: &Json) -> Result<String> {
    let mut thing = thing.clone();
    if let Some(fields) = thing.as_object_mut() {
        fields.remove(LABELS);
    }
    serde_json::to_string(&thing).map_err(|error| Error::new(format!("formatting the answer: {error}")))
}

type Answer = Result<Value, FuncError>;

/// Docker's functions, beside those of Go.
const FUNCTIONS: [(&str, Func); 9] = [
    ("json", json_of),
    ("split", split),
    ("join", join),
    ("title", title),
    ("lower", lower),
    ("upper", upper),
    ("pad", pad),
    ("truncate", truncate),
    ("label", label),
];

fn wrong(function: &str, expected: &str) -> FuncError {
    FuncError::Generic(format!("{function}: expected {expected}"))
}

fn json_of(args: &[Value]) -> Answer {
    let [thing] = args else { return Err(wrong("json", "one value")) };
    serde_json::to_string(&json(thing)).map(Value::String).map_err(|error| FuncError::Generic(error.to_string()))
}

fn split(args: &[Value]) -> Answer {
    let [Value::String(text), Value::String(separator)] = args else {
        return Err(wrong("split", "a text and a separator"));
    };
    Ok(Value::Array(text.split(separator.as_str()).map(|part| Value::String(part.to_owned())).collect()))
}

fn join(args: &[Value]) -> Answer {
    let [Value::Array(items), Value::String(separator)] = args else {
        return Err(wrong("join", "a list and a separator"));
    };
    Ok(Value::String(items.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)))
}

fn lower(args: &[Value]) -> Answer {
    let [Value::String(text)] = args else { return Err(wrong("lower", "a text")) };
    Ok(Value::String(text.to_lowercase()))
}

fn upper(args: &[Value]) -> Answer {
    let [Value::String(text)] = args else { return Err(wrong("upper", "a text")) };
    Ok(Value::String(text.to_uppercase()))
}

fn title(args: &[Value]) -> Answer {
    let [Value::String(text)] = args else { return Err(wrong("title", "a text")) };
    let mut first = true;
    let title = text.chars().flat_map(|c| {
        let begins = std::mem::replace(&mut first, c.is_whitespace());
        if begins { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
    });
    Ok(Value::String(title.collect()))
}

fn pad(args: &[Value]) -> Answer {
    let [Value::String(text), before, after] = args else { return Err(wrong("pad", "a text and two numbers")) };
    let (before, after) = (count("pad", before)?, count("pad", after)?);
    Ok(Value::String(if text.is_empty() { String::new() } else { format!("{:before$}{text}{:after$}", "", "") }))
}

fn truncate(args: &[Value]) -> Answer {
    let [Value::String(text), length] = args else { return Err(wrong("truncate", "a text and a number")) };
    Ok(Value::String(text.chars().take(count("truncate", length)?).collect()))
}

/// A number of characters; no more than fit a line.
fn count(function: &str, value: &Value) -> Result<usize, FuncError> {
    let number = if let Value::Number(number) = value { number.as_u64() } else { None };
    number
        .and_then(|number| u16::try_from(number).ok())
        .map(usize::from)
        .ok_or_else(|| wrong(function, "a number up to 65535"))
}

/// What `{{.Label "KEY"}}` is made to.
fn label(args: &[Value]) -> Answer {
    let [Value::Object(fields), Value::String(key)] = args else {
        return Err(wrong(".Label", "the key of a label, of a container in a list"));
    };
    let Some(Value::Map(labels)) = fields.get(LABELS) else { return Ok(Value::String(String::new())) };
    Ok(labels.get(key).cloned().unwrap_or_else(|| Value::String(String::new())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: Fields = &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Labels", "LABELS")];

    fn thing() -> Json {
        json!({
            "ID": "abc", "Names": "web", "Pid": 7, "Ratio": 1.5, "Labels": "a.b=x",
            LABELS: {"a.b": "x"},
            "State": {"Status": "running", "OOMKilled": false},
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"a.b": "x"}},
        })
    }

    fn shown(template: &str) -> String {
        lines(template).unwrap().join("\n")
    }

    fn lines(template: &str) -> Result<Vec<String>> {
        Template::parse(template)?.lines(FIELDS, [thing()].into_iter())
    }

    #[test]
    fn templates_as_docker_users_write_them() {
        for (template, expected) in [
            ("{{.ID}}: {{.Names}}", "abc: web"),
            ("{{.State.Status}}", "running"),
            (r"{{.ID}}\t{{.Names}}", "abc\tweb"),
            ("{{json .State}}", r#"{"OOMKilled":false,"Status":"running"}"#),
            ("{{json .Names}}", "\"web\""),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a.b=x;"),
            (r#"{{index .Config.Labels "a.b"}}"#, "x"),
            (r#"{{.Label "a.b"}}|{{.Label "none"}}|"#, "x||"),
            (r#"{{if eq ($.Label "a.b") "x"}}.Label {{end}}"#, ".Label "),
            (r#"{{if eq .State.Status "running"}}up{{else}}down{{end}}"#, "up"),
            (r#"{{join .Config.Env ","}}"#, "A=1,B=2"),
            (r#"{{index (split .Names "e") 1}}"#, "b"),
            ("{{upper .Names}} {{title .Names}} {{.Names | upper | lower}}", "WEB Web web"),
            ("{{len .Config.Env}} {{.Pid}} {{.Ratio}}", "2 7 1.5"),
            (r#"{{printf "%-5s|%3d" .ID .Pid}}"#, "abc  |  7"),
            ("{{with .State}}{{.Status}}{{end}}", "running"),
            ("{{truncate .Names 2}}{{pad .ID 1 1}}.", "we abc ."),
            ("{{slice .ID 0 2}}", "ab"),
            ("{{- /* nothing */ -}} {{.ID}}", "abc"),
            ("{{.Config.Labels.nope}}", "<no value>"),
        ] {
            assert_eq!(shown(template), expected, "{template}");
        }
    }

    #[test]
    fn tables_have_docker_s_headings() {
        assert_eq!(shown(r"table {{.ID}}\t{{.Names}}"), "CONTAINER ID   NAMES\nabc            web");
        assert_eq!(shown("table {{upper .Names}}"), "NAMES\nWEB");
    }

    #[test]
    fn json_shows_what_there_is_and_nothing_else() {
        let line = shown("json");
        assert!(line.contains("\"ID\":\"abc\"") && !line.contains("labels"), "{line}");
        let line = shown("{{json .}}");
        assert!(line.contains("\"ID\":\"abc\"") && !line.contains("\"labels") && !line.contains("\"Label\""), "{line}");
    }

    #[test]
    fn mistakes_are_named() {
        for (template, expected) in [
            ("{{.Nope}}", "there is no field .Nope; at the top are Config, ID"),
            ("{{.State.Nope}}", "there is no field .Nope"),
            ("{{frob .ID}}", "function frob not defined"),
            ("{{.ID", "unclosed action"),
            ("{{range .Names}}", "unexpected EOF"),
            ("{{join .ID}}", "join: expected a list"),
            ("{{pad .ID 99999 1}}", "pad: expected a number"),
            ("{{index .Config.Env 5}}", "unable to get 5"),
        ] {
            let error = lines(template).unwrap_err().to_string();
            assert!(error.starts_with("--format: ") && error.contains(expected), "{template}: {error}");
        }
    }

    #[test]
    fn fields_that_cost_are_found_in_templates() {
        let mentions = |text| Template::parse(text).unwrap().mentions("Size");
        assert!(mentions("{{.ID}} {{.Size}}") && mentions("{{json .}}") && mentions("json") && mentions("{{.}}"));
        assert!(!mentions("{{.ID}}") && !mentions("table {{.ID}}\t{{.Names}}"));
    }
}
