// swift-tools-version:5.9
// The Swift package and the app's conversation over a library of the core that is there already, with their tests.
// tests/ios/test_swift.py lays the folders out.
import PackageDescription

let package = Package(
    name: "Phone",
    targets: [
        .systemLibrary(name: "CEdgeLLM"),
        .target(name: "EdgeLLM", dependencies: ["CEdgeLLM"]),
        .target(name: "Chat", dependencies: ["EdgeLLM"]),
        .testTarget(name: "EdgeLLMTests", dependencies: ["EdgeLLM"]),
        .testTarget(name: "ChatTests", dependencies: ["Chat", "EdgeLLM"]),
    ]
)
