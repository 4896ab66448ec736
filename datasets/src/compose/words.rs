//! The words of composed stages, by language.

use crate::arithmetic::Operator;

/// Languages that stages can be composed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    English,
    Vietnamese,
}

impl Words {
    /// Those of a language tag; English for all that is not `vi`.
    pub(super) fn of(language: &str) -> Self {
        if language == "vi" { Words::Vietnamese } else { Words::English }
    }

    fn choose(self, english: &'static str, vietnamese: &'static str) -> &'static str {
        if self == Words::English { english } else { vietnamese }
    }

    pub(super) fn given(self) -> &'static str {
        self.choose("Given", "Cho")
    }

    pub(super) fn also_used(self) -> &'static str {
        self.choose("Also used", "Dùng thêm")
    }

    pub(super) fn goal(self) -> &'static str {
        self.choose("Goal", "Yêu cầu")
    }

    /// Between the numbers of a list, where a comma may be part of a number.
    pub(super) fn separator(self) -> &'static str {
        self.choose(", ", "; ")
    }

    pub(super) fn step(self, number: usize) -> String {
        format!("{} {number}", self.choose("step", "bước"))
    }

    pub(super) fn calculate(self, what: &str) -> String {
        format!("{} {what}", self.choose("Calculate", "Tính"))
    }

    pub(super) fn operation(self, operator: Operator, left: &str, right: &str) -> String {
        match (self, operator) {
            (Words::English, Operator::Add) => format!("Add {right} to {left}"),
            (Words::English, Operator::Subtract) => format!("Subtract {right} from {left}"),
            (Words::English, Operator::Multiply) => format!("Multiply {left} by {right}"),
            (Words::English, Operator::Divide) => format!("Divide {left} by {right}"),
            (Words::English, Operator::FloorDivide) => format!("Divide {left} by {right} and round down"),
            (Words::Vietnamese, Operator::Add) => format!("Cộng {left} với {right}"),
            (Words::Vietnamese, Operator::Subtract) => format!("Lấy {left} trừ {right}"),
            (Words::Vietnamese, Operator::Multiply) => format!("Nhân {left} với {right}"),
            (Words::Vietnamese, Operator::Divide) => format!("Chia {left} cho {right}"),
            (Words::Vietnamese, Operator::FloorDivide) => format!("Chia {left} cho {right}, lấy phần nguyên"),
        }
    }

    pub(super) fn power(self, base: &str, exponent: usize) -> String {
        match self {
            Words::English => format!("Raise {base} to the power {exponent}"),
            Words::Vietnamese => format!("Nâng {base} lên lũy thừa {exponent}"),
        }
    }

    /// Ends a VERIFY that undid every step.
    pub(super) fn undone(self) -> &'static str {
        self.choose("Each step undone gives back what it began with.", "Tính ngược từng bước đều cho lại số ban đầu.")
    }

    /// PLAN where the solution calculates nothing with plain numbers.
    pub(super) fn reason(self) -> &'static str {
        self.choose("Go from what is given to the goal.", "Đi từ giả thiết đến yêu cầu.")
    }

    /// Before a term that the solution works out.
    pub(super) fn work_out(self, term: &str) -> String {
        format!("{} {term}", self.choose("Work out", "Tìm"))
    }

    /// VERIFY where nothing can be recomputed.
    pub(super) fn nothing_to_recompute(self) -> &'static str {
        self.choose(
            "The steps hold no sum of plain numbers, so nothing here was recomputed.",
            "Các bước không có phép tính số nào, nên không có gì được tính lại.",
        )
    }

    /// A number as the language writes it.
    pub(super) fn number(self, plain: String) -> String {
        if self == Words::Vietnamese { plain.replace('.', ",") } else { plain }
    }
}
