// Compares pose_decoder.h with golden/decoder.txt: prints the largest differences, and fails beyond 0.0001.
//
//   g++ -std=c++17 -Wall -Wextra -Werror -o check_golden check_golden.cpp && ./check_golden ../golden/decoder.txt
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <vector>

#include "pose_decoder.h"

int main(int count, char** words) {
  std::ifstream file(count > 1 ? words[1] : "../golden/decoder.txt");
  int cases = 0, height, width, joints, stride;
  double slope, offset, place = 0, share = 0, x, y, score, visibility;
  file >> cases;
  for (int number = 0; number < cases; ++number) {
    file >> height >> width >> joints >> stride >> slope >> offset;
    if (!file) break;
    std::vector<float> heatmaps(height * width * joints), parts(heatmaps.size());
    for (float& value : heatmaps) file >> value;
    for (float& value : parts) file >> value;
    for (const auto& joint : posecascade::decode(heatmaps.data(), parts.data(), height, width, joints, stride, slope,
                                                 offset)) {
      file >> x >> y >> score >> visibility;
      place = std::max(place, std::hypot(joint.x - x, joint.y - y));
      share = std::max({share, std::abs(joint.score - score), std::abs(joint.visibility - visibility)});
    }
  }
  if (!file || cases < 1) return std::fprintf(stderr, "the golden file cannot be read to its end\n"), 2;
  std::printf("%d cases; joints differ by %.7f px at most, scores and visibility by %.7f\n", cases, place, share);
  return place <= 1e-4 && share <= 1e-4 ? 0 : 1;
}
