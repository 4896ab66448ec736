//! What each LaTeX macro of an answer means.

use super::node::Sign;
use super::tokens::{Lexer, Token};

/// Reads the macro `name`, whose name has just been passed.
pub(super) fn read(lexer: &mut Lexer, name: &str) -> Option<()> {
    match name {
        "frac" | "dfrac" | "tfrac" | "cfrac" | "nicefrac" | "sfrac" => {
            lexer.push(Token::Fraction);
            return lexer.arguments(2);
        }
        "binom" | "dbinom" | "tbinom" => {
            lexer.push(Token::Binomial);
            return lexer.arguments(2);
        }
        "sqrt" => {
            lexer.push(Token::Root);
            return lexer.arguments(1);
        }
        "text" | "textbf" | "textit" | "textrm" | "textnormal" | "textsf" | "texttt" | "mbox" | "hbox" | "emph"
        | "mathrm" | "rm" | "operatorname" => return lexer.inline(true),
        "boxed" | "fbox" | "mathbf" | "mathit" | "mathsf" | "mathcal" | "boldsymbol" | "bm" | "ensuremath" => {
            return lexer.inline(false);
        }
        "mathbb" => {
            let name = lexer.raw();
            lexer.push(Token::Name(if name.is_empty() { "\\mathbb".to_owned() } else { format!("{name}{name}") }));
        }
        "begin" => {
            let name = lexer.raw();
            lexer.push(Token::Begin(name.trim_end_matches('*').to_owned()));
        }
        "end" => {
            let name = lexer.raw();
            lexer.push(Token::End(name.trim_end_matches('*').to_owned()));
        }
        "left" | "right" => sided(lexer, name == "left"),
        "hspace" | "vspace" | "phantom" | "label" | "tag" => {
            lexer.raw();
        }
        _ => simple(lexer, name),
    }
    Some(())
}

/// `\left|` surely opens and `\right|` surely closes; `\left.` is nothing.
fn sided(lexer: &mut Lexer, opens: bool) {
    lexer.skip_spaces();
    if lexer.take_if('|') {
        lexer.push(Token::Bar(Some(opens)));
    } else {
        lexer.take_if('.');
    }
}

fn simple(lexer: &mut Lexer, name: &str) {
    let token = match name {
        "cdot" | "times" | "ast" => Token::Mark('*'),
        "div" => Token::Mark('/'),
        "pm" => Token::Mark('±'),
        "mp" => Token::Mark('∓'),
        "cup" => Token::Mark('∪'),
        "cap" => Token::Mark('∩'),
        "setminus" | "backslash" | "smallsetminus" => Token::Mark('∖'),
        "degree" | "circ" => Token::Mark('°'),
        "prime" => Token::Mark('\''),
        "le" | "leq" | "leqslant" | "leqq" => Token::Compare(Sign::LessEqual),
        "ge" | "geq" | "geqslant" | "geqq" => Token::Compare(Sign::GreaterEqual),
        "lt" => Token::Compare(Sign::Less),
        "gt" => Token::Compare(Sign::Greater),
        "ne" | "neq" => Token::Compare(Sign::NotEqual),
        "in" => Token::Compare(Sign::In),
        "infty" => Token::Infinity,
        "lbrace" => Token::Open('{'),
        "rbrace" => Token::Close('}'),
        "lbrack" => Token::Open('['),
        "rbrack" => Token::Close(']'),
        "langle" => Token::Open('⟨'),
        "rangle" => Token::Close('⟩'),
        "lfloor" => Token::Open('⌊'),
        "rfloor" => Token::Close('⌋'),
        "lceil" => Token::Open('⌈'),
        "rceil" => Token::Close('⌉'),
        "vert" | "mid" => Token::Bar(None),
        "lvert" => Token::Bar(Some(true)),
        "rvert" => Token::Bar(Some(false)),
        "lor" | "vee" => Token::Connector(true),
        "land" | "wedge" => Token::Connector(false),
        "colon" => Token::Mark(':'),
        "euro" => Token::Currency("euro"),
        "pounds" => Token::Currency("pound sterling"),
        "R" => Token::Name("RR".to_owned()),
        "Z" => Token::Name("ZZ".to_owned()),
        "N" => Token::Name("NN".to_owned()),
        "emptyset" | "varnothing" => {
            lexer.push(Token::Open('{'));
            Token::Close('}')
        }
        "overline" | "bar" | "vec" | "hat" | "widehat" | "tilde" | "overrightarrow" | "dot" | "overarc"
        | "widetilde" => Token::Accent(name.to_owned()),
        "pi" => Token::Name("π".to_owned()),
        "quad" | "qquad" | "displaystyle" | "textstyle" | "limits" | "nolimits" | "bf" | "it" | "cal" | "big"
        | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr" | "hline" | "hfill" | "newline" | "thinspace"
        | "space" | "nonumber" | "middle" | "enspace" => return lexer.space(),
        "sum" | "int" | "prod" | "lim" | "to" | "rightarrow" | "Rightarrow" | "implies" | "iff" | "ldots" | "dots"
        | "cdots" | "approx" | "equiv" | "sim" | "cong" | "pmod" | "bmod" | "mod" | "forall" | "exists" | "partial"
        | "subset" | "subseteq" | "notin" | "parallel" | "perp" | "underline" | "stackrel" | "overset" | "underset"
        | "longrightarrow" | "mapsto" | "multicolumn" | "oint" | "over" => Token::Unknown(format!("\\{name}")),
        _ if super::words::is_function(name) => Token::Function(name.to_owned()),
        "angle" | "triangle" | "widearc" => Token::Accent(name.to_owned()),
        _ => Token::Name(format!("\\{name}")),
    };
    lexer.push(token);
}
