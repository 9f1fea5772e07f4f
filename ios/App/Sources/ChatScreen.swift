import EdgeLLM
import SwiftUI

struct ChatScreen: View {
    @EnvironmentObject private var model: ChatModel
    @State private var showsSettings = false

    private var chat: Chat { model.chat }

    var body: some View {
        NavigationStack {
            content
                .navigationTitle("Chat")
                .navigationBarTitleDisplayMode(.inline)
                .toolbar {
                    ToolbarItem(placement: .navigationBarLeading) {
                        Button(action: chat.clear) {
                            Label("New conversation", systemImage: "square.and.pencil")
                        }
                        .disabled(chat.turns.isEmpty)
                    }
                    ToolbarItem(placement: .navigationBarTrailing) {
                        Button {
                            showsSettings = true
                        } label: {
                            Label("Settings", systemImage: "slider.horizontal.3")
                        }
                    }
                }
                .sheet(isPresented: $showsSettings, onDismiss: reload) {
                    SettingsScreen()
                }
        }
    }

    /// Another context takes effect by opening the model anew.
    private func reload() {
        Task { await model.load() }
    }

    @ViewBuilder private var content: some View {
        switch chat.state {
        case .loading:
            ProgressView("Opening the model…")
                .frame(maxWidth: .infinity, maxHeight: .infinity)
        case .failed(let reason):
            FailureView(reason: reason) {
                Task { await model.load() }
            }
        case .ready:
            VStack(spacing: 0) {
                TurnList(turns: chat.turns, isAnswering: chat.isAnswering)
                Composer(isAnswering: chat.isAnswering, send: chat.send, stop: chat.stop)
            }
        }
    }
}

/// Why the model could not be opened.
private struct FailureView: View {
    let reason: String
    let retry: () -> Void

    var body: some View {
        ScrollView {
            VStack(spacing: 16) {
                Image(systemName: "exclamationmark.triangle")
                    .font(.largeTitle)
                    .foregroundStyle(.secondary)
                    .accessibilityHidden(true)
                Text("The model cannot be opened")
                    .font(.headline)
                Text(reason)
                    .font(.body)
                    .foregroundStyle(.secondary)
                    .multilineTextAlignment(.center)
                    .textSelection(.enabled)
                Button("Try again", action: retry)
                    .buttonStyle(.borderedProminent)
            }
            .padding(32)
            .frame(maxWidth: .infinity)
        }
    }
}

/// The conversation, kept at its end while an answer comes.
private struct TurnList: View {
    let turns: [Chat.Turn]
    let isAnswering: Bool

    private static let end = "end"

    var body: some View {
        ScrollViewReader { reader in
            ScrollView {
                LazyVStack(alignment: .leading, spacing: 12) {
                    ForEach(turns) { turn in
                        TurnView(turn: turn, isComing: isAnswering && turn.id == turns.last?.id)
                    }
                    Color.clear
                        .frame(height: 1)
                        .id(TurnList.end)
                        .accessibilityHidden(true)
                }
                .padding()
            }
            .scrollDismissesKeyboard(.interactively)
            .onChange(of: turns.last?.text) { _ in
                reader.scrollTo(TurnList.end, anchor: .bottom)
            }
            .onChange(of: isAnswering) { answering in
                if !answering, let answer = turns.last?.text, !answer.isEmpty {
                    UIAccessibility.post(notification: .announcement, argument: answer)
                }
            }
        }
        .overlay {
            if turns.isEmpty {
                Text("Ask anything. The answer is computed on this device.")
                    .foregroundStyle(.secondary)
                    .multilineTextAlignment(.center)
                    .padding()
            }
        }
    }
}
