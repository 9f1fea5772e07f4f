import Foundation
import XCTest

@testable import EdgeLLM

final class MemoryTests: XCTestCase {
    private func need(_ manifest: String) throws -> MemoryNeed {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data(manifest.utf8).write(to: folder.appendingPathComponent("edgellm.json"))
        return try MemoryNeed(bundle: folder)
    }

    private let manifest = """
        {"format": 1, "context": 100, "model": {},
         "memory": {"weight_bytes": 1000, "kv_bytes_per_token": 10, "runtime_bytes": 5}}
        """

    func testWhatABundleTakes() throws {
        let need = try need(manifest)
        XCTAssertEqual(need.bytes(context: 100), 2005)
        XCTAssertEqual(need.bytes(context: 100, batch: 3), 4005)
        XCTAssertEqual(need.bytes(context: .max), .max)
        XCTAssertEqual(need.bytes(context: 1 << 40, batch: 1 << 40), .max)
        XCTAssertNoThrow(try need.check(context: nil, batch: 1, available: 2005))
        XCTAssertNoThrow(try need.check(context: nil, batch: 1, available: nil))
        XCTAssertNoThrow(try need.check(context: 10, batch: 1, available: 1105))
        XCTAssertThrowsError(try need.check(context: 10, batch: 2, available: 1204))
        // A context is never longer than the bundle's.
        XCTAssertNoThrow(try need.check(context: 100_000, batch: 1, available: 2005))
        XCTAssertThrowsError(try need.check(context: nil, batch: 1, available: 2004)) {
            XCTAssertEqual($0 as? EdgeLLMError, .memory(needed: 2005, available: 2004))
        }
    }

    func testDamagedManifests() {
        for text in ["", "{}", #"{"context": 5, "memory": {"weight_bytes": -1}}"#] {
            XCTAssertThrowsError(try need(text)) {
                XCTAssertTrue($0.localizedDescription.contains("edgellm.json cannot be read"))
            }
        }
    }

    func testThisDeviceSaysWhatItHas() {
        XCTAssertGreaterThan(MemoryNeed.available ?? .max, 1 << 20)
    }
}
