// Compares PoseDecoder.kt with golden/decoder.txt: prints the largest differences, and fails beyond 0.0001.
//
//   kotlinc PoseDecoder.kt CheckGolden.kt -d check && kotlin -cp check posecascade.CheckGoldenKt ../golden/decoder.txt
package posecascade

import java.io.File
import kotlin.math.abs
import kotlin.math.hypot
import kotlin.system.exitProcess

fun main(words: Array<String>) {
    val numbers = File(words.firstOrNull() ?: "../golden/decoder.txt").readText().trim().split(Regex("\\s+")).iterator()
    fun whole() = numbers.next().toInt()
    fun real() = numbers.next().toDouble()
    val cases = whole()
    var place = 0.0
    var share = 0.0
    repeat(cases) {
        val height = whole()
        val width = whole()
        val joints = whole()
        val decoder = PoseDecoder(height, width, joints, whole(), real(), real())
        fun maps() = FloatArray(height * width * joints) { numbers.next().toFloat() }
        for (joint in decoder.decode(maps(), maps())) {
            place = maxOf(place, hypot(joint.x - real(), joint.y - real()))
            share = maxOf(share, abs(joint.score - real()), abs(joint.visibility - real()))
        }
    }
    println("%d cases; joints differ by %.7f px at most, scores and visibility by %.7f".format(cases, place, share))
    exitProcess(if (place <= 1e-4 && share <= 1e-4) 0 else 1)
}
