import EdgeLLM
import SwiftUI

/// A question or an answer.
struct TurnView: View {
    let turn: Chat.Turn
    /// Whether it is an answer of which more may come.
    let isComing: Bool

    @ScaledMetric private var inset = 12
    @ScaledMetric private var margin = 40

    private var isQuestion: Bool { turn.role == .user }

    var body: some View {
        VStack(alignment: isQuestion ? .trailing : .leading, spacing: 4) {
            if turn.text.isEmpty, isComing {
                ProgressView()
                    .padding(inset)
                    .accessibilityLabel("The answer is on its way")
            } else {
                Text(turn.text)
                    .textSelection(.enabled)
                    .padding(inset)
                    .background(background, in: RoundedRectangle(cornerRadius: 16, style: .continuous))
                    .accessibilityLabel(isQuestion ? "You: \(turn.text)" : "Answer: \(turn.text)")
            }
            if let note = turn.note {
                Text(note)
                    .font(.footnote)
                    .foregroundStyle(.secondary)
            }
        }
        .frame(maxWidth: .infinity, alignment: isQuestion ? .trailing : .leading)
        .padding(isQuestion ? .leading : .trailing, margin)
        .contextMenu {
            Button {
                UIPasteboard.general.string = turn.text
            } label: {
                Label("Copy", systemImage: "doc.on.doc")
            }
        }
    }

    private var background: Color {
        isQuestion ? Color.accentColor.opacity(0.2) : Color(.secondarySystemBackground)
    }
}

/// Where questions are written, with a button that sends them, or ends the answer that comes.
struct Composer: View {
    let isAnswering: Bool
    let send: (String) -> Void
    let stop: () -> Void

    @State private var text = ""
    @FocusState private var isFocused: Bool

    private var isEmpty: Bool { text.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty }

    var body: some View {
        HStack(alignment: .bottom, spacing: 8) {
            TextField("Message", text: $text, axis: .vertical)
                .lineLimit(1...6)
                .focused($isFocused)
                .padding(.horizontal, 12)
                .padding(.vertical, 8)
                .background(Color(.secondarySystemBackground), in: RoundedRectangle(cornerRadius: 18))
                .accessibilityLabel("Your message")
            Button(action: act) {
                Image(systemName: isAnswering ? "stop.circle.fill" : "arrow.up.circle.fill")
                    .font(.title)
                    .frame(minWidth: 44, minHeight: 44)
            }
            .disabled(!isAnswering && isEmpty)
            .keyboardShortcut(.return, modifiers: .command)
            .accessibilityLabel(isAnswering ? "Stop the answer" : "Send")
        }
        .padding(.horizontal)
        .padding(.vertical, 8)
        .background(.bar)
    }

    private func act() {
        if isAnswering {
            stop()
        } else {
            send(text)
            text = ""
        }
    }
}
