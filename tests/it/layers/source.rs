//! Just enough of Rust's syntax to find paths, tests and functions in a text.

/// The text with comments and the insides of literals blanked; lines stay where they are.
pub fn code(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    while let Some(c) = rest.chars().next() {
        let length = blank_length(rest, code.chars().next_back());
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// How many bytes at the front are a comment or a literal.
fn blank_length(rest: &str, before: Option<char>) -> usize {
    let after_name = before.is_some_and(is_name);
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    if after_name {
        return 0;
    }
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
    let is_raw = (1..=2).contains(&prefix) && rest[..prefix].contains('r');
    if is_raw && rest[prefix + hashes..].starts_with('"') {
        let open = prefix + hashes + 1;
        let close = format!("\"{}", "#".repeat(hashes));
        return rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len());
    }
    0
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        match (here.starts_with(b"/*"), here.starts_with(b"*/")) {
            (true, _) => (depth, at) = (depth + 1, at + 2),
            (_, true) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// A character's length; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => 0,
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code with what stands behind `#[cfg(test)]` blanked, and the names of the modules declared there in files of
/// their own.
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let (mut kept, mut modules) = (code.to_owned(), Vec::new());
    let mut from = 0;
    while let Some(found) = kept[from..].find(MARK) {
        let (start, head) = (from + found, from + found + MARK.len());
        let end = kept[head..].find(['{', ';']).map_or(kept.len(), |at| head + at);
        let stop =
            if kept[end..].starts_with('{') { end + braces(&kept[end..]) } else { (end + 1).min(kept.len()) };
        let item: Vec<&str> = kept[head..end].split_whitespace().collect();
        if let [.., "mod", name] = item[..]
            && kept[end..].starts_with(';')
        {
            modules.push(name.to_owned());
        }
        let blank: String = kept[start..stop].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        from = start + blank.len();
        kept.replace_range(start..stop, &blank);
    }
    (kept, modules)
}

/// The length of the braces that open at the front, with what they hold.
pub fn braces(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    code.len()
}

/// A path such as `crate::model::id`, with the line it stands in.
#[derive(Debug, PartialEq)]
pub struct PathAt {
    pub line: usize,
    pub parts: Vec<String>,
    /// Whether `use` stands before it.
    pub is_use: bool,
}

/// Every path of the code; a group such as `std::{fs, io::{self, Read}}` as one path for each name in it.
pub fn paths(code: &str) -> Vec<PathAt> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].1);
        if !starts_name(tokens[at].1) || matches!(before, "::" | ".") {
            at += 1;
            continue;
        }
        let mut reader = Reader { tokens: &tokens, at, is_use: before == "use", paths: &mut paths };
        reader.tree(&[]);
        at = reader.at.max(at + 1);
    }
    paths
}

fn starts_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and every other character but spaces, with their lines.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let (mut tokens, mut line, mut at) = (Vec::new(), 1, 0);
    while let Some(c) = code[at..].chars().next() {
        let length = match c {
            _ if is_name(c) => code[at..].find(|c| !is_name(c)).unwrap_or(code.len() - at),
            ':' if code[at..].starts_with("::") => 2,
            _ => c.len_utf8(),
        };
        line += usize::from(c == '\n');
        if !c.is_whitespace() {
            tokens.push((line, &code[at..at + length]));
        }
        at += length;
    }
    tokens
}

struct Reader<'a> {
    tokens: &'a [(usize, &'a str)],
    at: usize,
    is_use: bool,
    paths: &'a mut Vec<PathAt>,
}

impl Reader<'_> {
    fn token(&self) -> &str {
        self.tokens.get(self.at).map_or("", |(_, token)| token)
    }

    /// Reads a name and what hangs on it by `::`; stops behind it.
    fn tree(&mut self, before: &[String]) {
        let mut parts = before.to_vec();
        let line = self.tokens[self.at].0;
        loop {
            if self.token() == "{" {
                self.group(&parts);
                return;
            }
            if !starts_name(self.token()) {
                break;
            }
            parts.push(self.token().to_owned());
            self.at += 1;
            if self.token() != "::" {
                break;
            }
            self.at += 1;
        }
        self.paths.push(PathAt { line, parts, is_use: self.is_use });
    }

    fn group(&mut self, before: &[String]) {
        self.at += 1;
        while self.at < self.tokens.len() && self.token() != "}" {
            if starts_name(self.token()) {
                self.tree(before);
            } else {
                self.at += 1;
            }
        }
        self.at += 1;
    }
}

/// Every function with a body: its name, its first line and how many lines it has.
pub fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let is_word = !code[..at].chars().next_back().is_some_and(is_name);
        let name: String = code[at + 3..].chars().take_while(|c| is_name(*c)).collect();
        let Some(open) = code[at..].find(['{', ';']).filter(|_| is_word && !name.is_empty()) else {
            continue;
        };
        if code[at + open..].starts_with('{') {
            let end = at + open + braces(&code[at + open..]);
            let line = 1 + code[..at].matches('\n').count();
            functions.push((name, line, 1 + code[at..end].matches('\n').count()));
        }
    }
    functions
}
