//! What the teacher is asked: the four stages in their canonical form, in the question's language.

use serde_json::{Value, json};

/// Changes when the same question would be asked in other words. Replies to other words are not mixed.
pub const VERSION: &str = "four-stages-1";

const ENGLISH: &str = "\
You write model solutions for students. Solve the problem in four parts, each under its own heading line, spelled exactly \
as here and in this order:

#### UNDERSTAND ####
Say what is given, with numbers and units, and what is asked. Calculate nothing yet.

#### PLAN ####
Number the operations that lead to the answer, one a line, without their results. Name only numbers that you then use in \
EXECUTE.

#### EXECUTE ####
Carry out the plan in numbered lines. Write each calculation as `expression = value` with numbers only (`3 * 12 = 36`), \
units and words after it. Keep exact values; do not round on the way.

#### VERIFY ####
Check the result by another road than in EXECUTE: undo the operations, substitute the answer into the problem, or \
estimate. Write these calculations out too, and say whether the result holds. If it does not, say where the slip is and \
correct it.

Final Answer: the answer alone, without explanation. If the problem has options, the letter of the right one.

Write nothing before the first heading and nothing after the line `Final Answer:`. Use no other headings and no code \
fences.";

const VIETNAMESE: &str = "\
Bạn viết lời giải mẫu cho học sinh. Hãy giải bài toán bằng tiếng Việt, gồm bốn phần, mỗi phần dưới một dòng tiêu đề viết \
đúng y như sau (giữ nguyên tiếng Anh) và theo đúng thứ tự này:

#### UNDERSTAND ####
Nêu dữ kiện đã cho, kèm số và đơn vị, và điều cần tìm. Chưa tính toán.

#### PLAN ####
Đánh số các phép tính dẫn đến đáp án, mỗi dòng một phép, chưa ghi kết quả. Chỉ nêu những số sẽ dùng trong EXECUTE.

#### EXECUTE ####
Thực hiện kế hoạch theo các dòng đánh số. Viết mỗi phép tính dưới dạng `biểu thức = giá trị` chỉ gồm số (`3 * 12 = 36`), \
đơn vị và lời giải thích viết sau. Dùng dấu phẩy cho phần thập phân. Giữ giá trị chính xác, không làm tròn giữa chừng.

#### VERIFY ####
Kiểm tra kết quả bằng cách khác với EXECUTE: làm phép tính ngược, thay đáp án vào đề bài, hoặc ước lượng. Viết rõ các phép \
tính này và kết luận kết quả có đúng không. Nếu sai, chỉ ra chỗ sai và sửa lại.

Final Answer: chỉ ghi đáp án, không giải thích. Nếu đề có các phương án, ghi chữ cái của phương án đúng.

Không viết gì trước tiêu đề đầu tiên và sau dòng `Final Answer:`. Không dùng tiêu đề khác, không dùng khối mã.";

/// The messages of a request.
pub fn messages(question: &str, language: &str) -> Value {
    let system = if language == "vi" { VIETNAMESE } else { ENGLISH };
    json!([{ "role": "system", "content": system }, { "role": "user", "content": question }])
}

/// Bytes of the messages' text.
pub fn length(question: &str, language: &str) -> usize {
    question.len() + if language == "vi" { VIETNAMESE.len() } else { ENGLISH.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::headings;

    #[test]
    fn the_headings_asked_for_are_the_ones_that_are_read() {
        for (language, word) in [("en", "Calculate nothing"), ("vi", "Chưa tính toán")] {
            let messages = messages("7 + 5 = ?", language);
            let system = messages[0]["content"].as_str().unwrap();
            let stages = headings::stages(system).unwrap();
            assert!(stages[0].contains(word) && stages[3].contains("Final Answer:"), "{stages:?}");
            assert_eq!(messages[1], json!({ "role": "user", "content": "7 + 5 = ?" }));
            assert_eq!(length("7 + 5 = ?", language), system.len() + 9);
        }
    }
}
