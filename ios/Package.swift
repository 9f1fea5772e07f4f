// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "EdgeLLM",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [.library(name: "EdgeLLM", targets: ["EdgeLLM"])],
    dependencies: [.package(path: "../native")],
    targets: [
        .target(
            name: "EdgeLLM",
            dependencies: [.product(name: "CEdgeLLM", package: "native")],
            resources: [.copy("PrivacyInfo.xcprivacy")],
            swiftSettings: [.enableExperimentalFeature("StrictConcurrency")]
        ),
        .testTarget(name: "EdgeLLMTests", dependencies: ["EdgeLLM"]),
    ]
)
